"""How many threads the arithmetic should use: one per physical core this process may really run on.

Decoding is bound by memory and prefill by the vector units; a second hardware thread on a core shares both, so it only
adds waiting. Inside a container the cgroup's CPU quota counts, not the machine.
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path


def physical_cores() -> int:
    """Physical cores this process may use: affinity, then hardware threads joined per core, then the cgroup's quota.

    Returns:
        At least 1.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux, Android
        return linux_cores(os.sched_getaffinity(0), Path("/"))
    try:  # macOS
        found = subprocess.run(["sysctl", "-n", "hw.physicalcpu"], capture_output=True, text=True, check=True)
        return int(found.stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return os.cpu_count() or 1


def linux_cores(cpus: Iterable[int], root: Path) -> int:
    """As :func:`physical_cores`, from the kernel's files.

    Args:
        cpus: Numbers of the logical CPUs the process may run on.
        root: Folder that holds ``proc`` and ``sys``.
    """
    cores = {_core(cpu, root) for cpu in cpus}
    quota = _cgroup_quota(root)
    return max(1, min(len(cores), math.ceil(quota) if quota else len(cores)))


def _core(cpu: int, root: Path) -> tuple[str, ...]:
    """What names the core of a logical CPU; the CPU itself where the kernel does not tell (some ARM boards)."""
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    package, core = _read(topology / "physical_package_id"), _read(topology / "core_id")
    siblings = _read(topology / "thread_siblings_list")
    if siblings:
        return ("siblings", siblings)
    return ("core", package, core) if core and core != "-1" else ("cpu", str(cpu))


def _cgroup_quota(root: Path) -> float | None:
    """CPUs the cgroup grants (1.5 is one and a half), the least along the path to the root; None: no limit.

    Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (``cpu.max``) and cgroup-v1 (``cpu.cfs_quota_us``).
    """
    quotas = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container the path is the host's and the mount shows only the tail, so the mount's top counts as well.
        folder = base / path.lstrip("/")
        for level in {folder, base, *(parent for parent in folder.parents if base in parent.parents)}:
            limit = _read(level / "cpu.max").split()
            if not limit:
                limit = [_read(level / "cpu.cfs_quota_us"), _read(level / "cpu.cfs_period_us")]
            if len(limit) == 2 and limit[0].isdigit() and limit[1].isdigit() and int(limit[1]):
                quotas.append(int(limit[0]) / int(limit[1]))
    return min(quotas, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
