"""The host as a device, read from a copy of what Linux shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.devices import load_device, probe_host, read_device, registry
from edgekit.devices.profile import HostDefaults
from edgekit.errors import DeviceProfileError

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:   12000000 kB\n"
CPUINFO = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma avx512_vnni sse2\n"
KIB = 1024


@pytest.fixture
def defaults() -> HostDefaults:
    return read_device(registry.library() / "cpu.toml")


def _host(root: Path, **files: str) -> Path:
    names = {"meminfo": "proc/meminfo", "cpuinfo": "proc/cpuinfo", "cgroup": "proc/self/cgroup"}
    for name, text in files.items():
        _put(root, names[name], text)
    return root


def _put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_memory_processor_and_extensions(tmp_path: Path, defaults: HostDefaults) -> None:
    host = probe_host(defaults, _host(tmp_path, meminfo=MEMINFO, cpuinfo=CPUINFO), affinity={0, 1})
    assert (host.total_bytes, host.usable_bytes) == (16_000_000 * KIB, 12_000_000 * KIB)
    assert host.cpu.description.value == "2 hardware threads of Some CPU"
    assert host.cpu.isa.value == ("avx2", "fma", "avx512_vnni")
    assert host.bandwidth.theoretical is None
    assert host.bandwidth.sustained is None
    assert "MemAvailable" in host.memory.usable.source


def test_threads_that_share_a_core_count_once(tmp_path: Path, defaults: HostDefaults) -> None:
    _host(tmp_path, meminfo=MEMINFO, cpuinfo=CPUINFO)
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        _put(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings)
    assert probe_host(defaults, tmp_path, affinity={0, 1, 2, 3}).cpu.cores.value == 2
    assert probe_host(defaults, tmp_path, affinity={0, 2}).cpu.cores.value == 1


def test_without_a_topology_every_usable_thread_is_a_core(tmp_path: Path, defaults: HostDefaults) -> None:
    host = probe_host(defaults, _host(tmp_path, meminfo=MEMINFO, cpuinfo=CPUINFO), affinity={0, 5, 7})
    assert host.cpu.cores.value == 3
    assert "does not say" in host.cpu.cores.source


def test_arm_names_its_extensions_elsewhere(tmp_path: Path, defaults: HostDefaults) -> None:
    _host(tmp_path, meminfo=MEMINFO, cpuinfo="processor : 0\nFeatures\t: fp asimd asimddp i8mm\n")
    assert probe_host(defaults, tmp_path, affinity={0}).cpu.isa.value == ("asimd", "asimddp", "i8mm")


@pytest.mark.parametrize("meminfo", ["", "MemTotal: 16000000 kB\n"])
def test_a_host_that_hides_its_memory_is_an_error(tmp_path: Path, defaults: HostDefaults, meminfo: str) -> None:
    with pytest.raises(DeviceProfileError, match="cannot probe this host's memory"):
        probe_host(defaults, _host(tmp_path, meminfo=meminfo))


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="probing needs Linux")
def test_this_host() -> None:
    host = load_device("cpu")
    assert 0 < host.usable_bytes <= host.total_bytes
    assert 1 <= host.cpu.cores.value <= (os.cpu_count() or 1)
