"""Memory and cores of this host. The rule for cores is tested in tests/native/topology_test.cpp."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.host import (
    HostCores,
    HostProcessor,
    available_memory,
    base_folder,
    cache_folder,
    cores,
    drop_from_cache,
    expanded,
    home_folder,
    memory,
    peak_rss_bytes,
    physical_cores,
    private_bytes,
    processor,
    reset_peak,
    return_freed_memory,
)

SIZE = 64 * 1024 * 1024
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_private_memory_counts_written_and_not_mapped_pages(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(SIZE))
    before = private_bytes()
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    assert int(mapped.sum()) == 0  # every page is read
    between = private_bytes()
    owned = np.ones(SIZE, dtype=np.uint8)
    after = private_bytes()
    assert before is not None
    assert between is not None
    assert after is not None
    assert between - before < SIZE // 4
    assert after - between > SIZE * 3 // 4
    assert owned.any()


@linux
def test_the_peak_stays_when_memory_is_freed() -> None:
    block = np.ones(SIZE, dtype=np.uint8)
    assert block.any()
    high = peak_rss_bytes()
    del block
    assert high is not None
    assert high > SIZE
    assert peak_rss_bytes() == pytest.approx(high, rel=0.01)


@linux
def test_the_peak_can_be_counted_anew() -> None:
    block = np.ones(2 * SIZE, dtype=np.uint8)
    assert block.any()
    high = peak_rss_bytes()
    del block
    assert high is not None
    if reset_peak():
        assert (peak_rss_bytes() or high) < high - SIZE


def test_a_peak_that_cannot_be_reset_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError("clear_refs")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert reset_peak() is False


def test_this_machine_has_cores() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_the_affinity_mask_is_respected() -> None:
    only = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, [{only}]);from edgekit.host import physical_cores; print(physical_cores())"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


def test_the_import_is_light() -> None:
    program = "import sys; import edgekit.host; print('numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:   12000000 kB\n"


def _machine(root: Path, cgroup: str, **files: str) -> tuple[int, int]:
    """Total and available memory of a machine with these files."""
    for name, text in {"proc/meminfo": MEMINFO, "proc/self/cgroup": cgroup, **files}.items():
        _put(root, name, text)
    found = memory(root)
    assert found is not None
    return found.total_bytes, found.available_bytes


def _put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_without_control_groups_the_whole_machine_counts(tmp_path: Path) -> None:
    assert _machine(tmp_path, "") == (16_000_000 * 1024, 12_000_000 * 1024)


def test_a_version_2_group_limits_memory(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/outer/inner/memory.max": "max\n",
        "sys/fs/cgroup/outer/memory.max": "4000000000\n",
        "sys/fs/cgroup/outer/memory.current": "1500000000\n",
        "sys/fs/cgroup/outer/memory.stat": "anon 900000000\ninactive_file 500000000\n",
    }
    # 1.5 GB are in use, of which 0.5 GB are file pages that can be dropped.
    assert _machine(tmp_path, "0::/outer/inner\n", **files) == (4_000_000_000, 3_000_000_000)


def test_a_version_1_group_limits_memory(tmp_path: Path) -> None:
    # A container sees its own group at the mount's root while /proc names the host's path.
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "600000000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100000000\n",
    }
    found = _machine(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n", **files)
    assert found == (2_000_000_000, 1_500_000_000)


def test_a_group_in_use_can_leave_less_than_the_machine_has(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory.max": "14000000000\n", "sys/fs/cgroup/memory.current": "5000000000\n"}
    assert _machine(tmp_path, "0::/\n", **files) == (14_000_000_000, 9_000_000_000)


def test_version_1_says_no_limit_with_a_huge_number(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096)}
    assert _machine(tmp_path, "4:memory:/\n", **files) == (16_000_000 * 1024, 12_000_000 * 1024)


@pytest.mark.parametrize("meminfo", [None, "", "MemTotal: 16000000 kB\n"])
def test_a_system_may_not_report_its_memory(tmp_path: Path, meminfo: str | None) -> None:
    if meminfo is not None:
        _put(tmp_path, "proc/meminfo", meminfo)
    assert memory(tmp_path) is None


@linux
def test_the_memory_of_this_machine() -> None:
    found = memory()
    assert found is not None
    assert 0 < found.available_bytes <= found.total_bytes
    assert 0 < (available_memory() or 0) <= found.total_bytes


def test_available_memory_may_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.host.memory", lambda: None)
    assert available_memory() is None


def test_threads_that_share_a_core_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        _put(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings)
    assert cores(tmp_path, {0, 1, 2, 3}) == HostCores(threads=2, is_reported=True)
    assert cores(tmp_path, {0, 2}) == HostCores(threads=1, is_reported=True)


def test_without_a_topology_every_usable_thread_is_a_core(tmp_path: Path) -> None:
    assert cores(tmp_path, {0, 5, 7}) == HostCores(threads=3, is_reported=False)


def test_an_empty_affinity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="affinity is"):
        cores(tmp_path, set())


def test_the_processor_and_its_extensions(tmp_path: Path) -> None:
    _put(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name : Some CPU\nflags : fpu avx2 fma avx512_vnni sse2\n")
    assert processor(tmp_path, {0, 1}) == HostProcessor("Some CPU", 2, ("avx2", "fma", "avx512_vnni"))


def test_arm_names_its_extensions_features(tmp_path: Path) -> None:
    _put(tmp_path, "proc/cpuinfo", "processor : 0\nFeatures : fp asimd asimddp i8mm\n")
    assert processor(tmp_path, {0}).isa == ("asimd", "asimddp", "i8mm")


def test_a_processor_without_a_name_has_its_architecture(tmp_path: Path) -> None:
    assert processor(tmp_path, {0}) == HostProcessor(platform.machine(), 1, ())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory for later")
def test_freed_memory_is_returned() -> None:
    """The block at the end keeps glibc from returning those before it on its own."""
    blocks = [bytes(4000) for _ in range(5_000)]  # 20 MB
    last = bytes(4000)
    full = resident_bytes()
    blocks.clear()
    return_freed_memory()
    assert resident_bytes() < full - 15_000_000
    assert len(last) == 4000


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_file_is_dropped_from_the_systems_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advised: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    monkeypatch.setattr(os, "posix_fadvise", lambda file, *advice: advised.append(advice), raising=False)
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 10_000)
    drop_from_cache(path)
    assert advised == [(0, 0, 4)], "the whole file"
    drop_from_cache(tmp_path / "nothing")
    monkeypatch.delattr(os, "posix_fadvise")
    drop_from_cache(path)
    assert len(advised) == 1


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(Path, "expanduser", unknown)
    for name in ("EDGEKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert home_folder() == Path("/nonexistent")
    assert cache_folder() == Path("/nonexistent/.cache/edgekit")
    assert expanded("~/models") == Path("~/models")


@pytest.mark.parametrize(
    ("value", "expected"), [("/x", "/x"), ("", "/home/me/.y"), ("x", "/home/me/.y"), ("~/x", "/home/me/.y")]
)
def test_a_base_folder_is_absolute(monkeypatch: pytest.MonkeyPatch, value: str, expected: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_STATE_HOME", value)
    assert base_folder("XDG_STATE_HOME", ".y") == Path(expected)
