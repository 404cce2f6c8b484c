"""The host as a device: memory, cores and instruction set as Linux reports them. Bandwidth stays unknown here.

Sources: proc(5) for ``/proc/meminfo`` and ``/proc/cpuinfo``; the kernel's documents ``cgroup-v1/memory.rst`` and
``cgroup-v2.rst`` for a container's limit, ``ABI/stable/sysfs-devices-system-cpu`` for the topology.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

from ..errors import DeviceProfileError
from ..units import KIB
from .profile import Bytes, Cpu, DeviceProfile, HostDefaults, Memory, Sourced

# The extensions a kernel can choose by, in the spelling of /proc/cpuinfo: first x86, then Arm.
ISA_FLAGS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


def probe_host(
    defaults: HostDefaults, root: Path = Path("/"), affinity: Collection[int] | None = None
) -> DeviceProfile:
    """Describe the machine this runs on.

    Args:
        defaults: What the profile file says in words.
        root: Where ``proc`` and ``sys`` are.
        affinity: Numbers of the CPUs this process may use; asked of the system when None.

    Raises:
        DeviceProfileError: The system is not Linux or hides ``/proc/meminfo``.
    """
    words = {f.name: getattr(defaults, f.name) for f in fields(HostDefaults)}
    cpuinfo = _read(root / "proc/cpuinfo") or ""
    return DeviceProfile(**words, memory=_memory(root), cpu=_cpu(root, cpuinfo, affinity))


def _memory(root: Path) -> Memory:
    meminfo = _read(root / "proc/meminfo")
    sizes = {key: int(kib) * KIB for key, kib in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo or "", re.MULTILINE)}
    if "MemTotal" not in sizes or "MemAvailable" not in sizes:
        raise DeviceProfileError(
            "cannot probe this host's memory: /proc/meminfo gives no MemTotal and MemAvailable",
            hint="name another device (edgekit devices lists them), or write a profile of this one",
        )
    total, total_source = sizes["MemTotal"], "/proc/meminfo, MemTotal"
    usable, usable_source = sizes["MemAvailable"], "/proc/meminfo, MemAvailable when asked"
    for limit, used, source in _cgroup_limits(root):
        if limit < total:
            total, total_source = limit, source
        if limit - used < usable:
            usable, usable_source = max(limit - used, 1), f"{source}, less what is in use"
    return Memory(total=Sourced(Bytes(total), total_source), usable=Sourced(Bytes(min(usable, total)), usable_source))


def _cgroup_limits(root: Path) -> list[tuple[int, int, str]]:
    """(limit, bytes in use that cannot be dropped, source) of every control group above this process that has one."""
    limits = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0":  # the unified hierarchy of version 2
            mount, limit_file, used_file, cache = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, limit_file, cache = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "total_inactive_file"
            used_file = "memory.usage_in_bytes"
        else:
            continue
        # In a container the path may be the host's, which is not mounted here: the mount's root is the group then.
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = root.joinpath(mount, *parts[:depth])
            limit = (_read(folder / limit_file) or "").strip()
            if not limit.isdigit():  # absent, or "max"
                continue
            used = (_read(folder / used_file) or "0").strip()
            droppable = re.search(rf"^{cache} (\d+)$", _read(folder / "memory.stat") or "", re.MULTILINE)
            in_use = max(int(used) - (int(droppable[1]) if droppable else 0), 0)
            limits.append((int(limit), in_use, f"control group, {limit_file}"))
    return limits


def _cpu(root: Path, cpuinfo: str, affinity: Collection[int] | None) -> Cpu:
    if affinity is None:
        affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    model = found[1].strip() if found else platform.machine() or "unknown processor"
    listed = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = set(listed[1].split()) if listed else set()
    cores, source = _physical_cores(root, affinity)
    threads = f"{len(affinity)} hardware thread{'s' if len(affinity) != 1 else ''} of {model}"
    return Cpu(
        description=Sourced(threads, "/proc/cpuinfo and the process's CPU affinity"),
        cores=Sourced(cores, source),
        isa=Sourced(tuple(flag for flag in ISA_FLAGS if flag in flags), "/proc/cpuinfo"),
    )


def _physical_cores(root: Path, affinity: Collection[int]) -> tuple[int, str]:
    """How many cores the usable hardware threads lie on."""
    siblings = {_read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in affinity}
    if siblings and None not in siblings:
        return len(siblings), "/sys/devices/system/cpu/*/topology/thread_siblings_list, within the CPU affinity"
    return max(len(affinity), 1), "the process's CPU affinity; the system does not say which threads share a core"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
