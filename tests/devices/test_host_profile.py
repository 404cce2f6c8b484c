"""The host as a device, read from copies of Linux's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.devices import Sourced, load_device, registry
from edgekit.devices.host_profile import host_profile
from edgekit.devices.profile import HostDefaults
from edgekit.devices.reader import read_device
from edgekit.errors import DeviceProfileError

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:   12000000 kB\n"
CPUINFO = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma avx512_vnni sse2\n"
KIB = 1024


@pytest.fixture
def defaults() -> HostDefaults:
    return read_device(registry.LIBRARY.folder() / "cpu.toml")


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
    host = host_profile(defaults, _host(tmp_path, meminfo=MEMINFO, cpuinfo=CPUINFO), affinity={0, 1})
    assert (host.total_bytes, host.usable_bytes) == (16_000_000 * KIB, 12_000_000 * KIB)
    assert host.cpu.description.value == "2 hardware threads of Some CPU"
    assert host.cpu.isa.value == ("avx2", "fma", "avx512_vnni")
    assert host.bandwidth.theoretical is None
    assert host.bandwidth.sustained is None
    assert "MemAvailable" in host.memory.usable.source


def test_cores_within_the_affinity_count(tmp_path: Path, defaults: HostDefaults) -> None:
    host = host_profile(defaults, _host(tmp_path, meminfo=MEMINFO, cpuinfo=CPUINFO), affinity={0, 5, 7})
    assert host.cpu.cores == Sourced(
        3, "hardware threads within the CPU affinity and CPU quota; the system does not report shared cores"
    )


def test_a_control_group_limits_memory(tmp_path: Path, defaults: HostDefaults) -> None:
    _host(tmp_path, meminfo=MEMINFO, cpuinfo=CPUINFO, cgroup="0::/\n")
    _put(tmp_path, "sys/fs/cgroup/memory.max", "4000000000\n")
    host = host_profile(defaults, tmp_path, affinity={0})
    assert (host.total_bytes, host.usable_bytes) == (4_000_000_000, 4_000_000_000)
    assert "control group" in host.memory.usable.source


def test_a_full_control_group_leaves_at_least_a_byte(tmp_path: Path, defaults: HostDefaults) -> None:
    """A profile's memory is above 0; every plan is refused then, as it should be."""
    _host(tmp_path, meminfo=MEMINFO, cpuinfo=CPUINFO, cgroup="0::/\n")
    _put(tmp_path, "sys/fs/cgroup/memory.max", "4000000000\n")
    _put(tmp_path, "sys/fs/cgroup/memory.current", "5000000000\n")
    assert host_profile(defaults, tmp_path, affinity={0}).usable_bytes == 1


@pytest.mark.parametrize("meminfo", ["", "MemTotal: 16000000 kB\n"])
def test_a_host_that_hides_its_memory_is_an_error(tmp_path: Path, defaults: HostDefaults, meminfo: str) -> None:
    with pytest.raises(DeviceProfileError, match="cannot describe this host: the system does not report its memory"):
        host_profile(defaults, _host(tmp_path, meminfo=meminfo))


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="probing needs Linux")
def test_this_host() -> None:
    host = load_device("cpu")
    assert 0 < host.usable_bytes <= host.total_bytes
    assert 1 <= host.cpu.cores.value <= (os.cpu_count() or 1)
