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

from .. import host
from ..errors import DeviceProfileError
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
    total, usable = host.total_memory(root), host.available_memory(root)
    if total is None or usable is None:
        raise DeviceProfileError(
            "cannot probe this host's memory: /proc/meminfo gives no MemTotal and MemAvailable",
            hint="name another device (edgekit devices lists them), or write a profile of this one",
        )
    return Memory(
        total=Sourced(Bytes(total), "MemTotal of /proc/meminfo, or a lower limit of a control group"),
        usable=Sourced(
            Bytes(max(min(usable, total), 1)),
            "MemAvailable of /proc/meminfo when asked, or less where a control group leaves less",
        ),
    )


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
