from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.runtime.threads import linux_cores, physical_cores


def fake_cpu(root: Path, cpu: int, siblings: str = "", core: str = "", package: str = "0") -> None:
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    topology.mkdir(parents=True)
    for name, value in (("thread_siblings_list", siblings), ("core_id", core), ("physical_package_id", package)):
        if value:
            (topology / name).write_text(value + "\n")


def fake_quota(root: Path, group: str, quota: str) -> None:
    folder = root / "sys/fs/cgroup" / group.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(quota + "\n")


def cgroup(root: Path, text: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


def test_hardware_threads_of_a_core_count_once(tmp_path: Path) -> None:
    for cpu in range(4):
        fake_cpu(tmp_path, cpu, siblings=f"{cpu % 2},{cpu % 2 + 2}")
    assert linux_cores(range(4), tmp_path) == 2
    assert linux_cores([0, 2], tmp_path) == 1
    assert linux_cores([1], tmp_path) == 1


def test_cores_of_two_packages_differ(tmp_path: Path) -> None:
    for cpu, package in enumerate("0011"):
        fake_cpu(tmp_path, cpu, core=str(cpu % 2), package=package)
    assert linux_cores(range(4), tmp_path) == 4


def test_without_topology_every_cpu_is_a_core(tmp_path: Path) -> None:
    fake_cpu(tmp_path, 0, core="-1")
    assert linux_cores([0, 1, 2], tmp_path) == 3


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)]
)
def test_the_cgroup_quota_limits(tmp_path: Path, quota: str, cores: int) -> None:
    cgroup(tmp_path, "0::/app/job\n")
    fake_quota(tmp_path, "/app/job", quota)
    assert linux_cores(range(8), tmp_path) == cores


def test_a_parents_quota_limits_too_and_so_does_the_mounts_top(tmp_path: Path) -> None:
    cgroup(tmp_path, "0::/app/job\n")
    fake_quota(tmp_path, "/app/job", "max 100000")
    fake_quota(tmp_path, "/app", "300000 100000")
    assert linux_cores(range(8), tmp_path) == 3
    fake_quota(tmp_path, "", "100000 100000")  # inside a container, where the path is the host's
    assert linux_cores(range(8), tmp_path) == 1


def test_version_1_groups_count(tmp_path: Path) -> None:
    cgroup(tmp_path, "5:memory:/m\n4:cpu,cpuacct:/job\n")
    folder = tmp_path / "sys/fs/cgroup/cpu/job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("400000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert linux_cores(range(8), tmp_path) == 4
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert linux_cores(range(8), tmp_path) == 8


def test_this_machine_has_cores() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)
