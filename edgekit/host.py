"""This machine and this process: memory, cores and instruction set, as the operating system reports them.

Every part of edgekit that needs one of these figures asks here. Importing this module is cheap: no numpy.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from . import native
from .units import KIB


def physical_cores() -> int:
    """The number of threads the arithmetic should use.

    This is the number of fast physical cores that the process's CPU affinity and control groups allow. The rule and
    the reasons for it are in ``native/src/topology.h``.

    Returns:
        At least 1.

    Raises:
        NativeLibraryError: The native library is missing.
    """
    return int(native.library().ek_default_threads())


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes this process can allocate before the system runs short of memory; None where the system does not say.

    The smallest of ``MemAvailable`` and what is left in each control group above this process. File pages that the
    system can drop count as free.

    Args:
        root: The folder that holds ``proc`` and ``sys``.

    Source: proc(5), ``/proc/meminfo``; the kernel's ``cgroup-v1/memory.rst`` and ``cgroup-v2.rst``.
    """
    available = _meminfo(root).get("MemAvailable")
    if available is None:
        return None
    return min([available, *(max(limit - used, 0) for limit, used in _memory_groups(root))])


def total_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory this process may use at most; None where the system does not say.

    The smallest of ``MemTotal`` and the limit of each control group above this process.

    Args:
        root: The folder that holds ``proc`` and ``sys``.
    """
    total = _meminfo(root).get("MemTotal")
    return None if total is None else min([total, *(limit for limit, _ in _memory_groups(root))])


def peak_rss_bytes() -> int | None:
    """The peak resident memory of this process in bytes, mapped weights included; None on Windows.

    Source: ``VmHWM`` of ``/proc/self/status`` (proc(5)); elsewhere ``ru_maxrss`` of getrusage(2).
    """
    peak = _proc_kib("status", "VmHWM")
    if peak is not None:
        return peak
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KIB  # macOS reports bytes, other systems KiB


def reset_peak() -> bool:
    """Make :func:`peak_rss_bytes` count from now on; False where the system cannot.

    Source: ``/proc/self/clear_refs`` (proc(5)), 5: "reset the peak resident set size to the process's current".
    """
    before = _proc_kib("status", "VmHWM")
    try:
        Path("/proc/self/clear_refs").write_text("5\n", encoding="ascii")
    except OSError:
        return False
    return before is not None


def private_bytes() -> int | None:
    """Bytes of memory that belong to this process alone; None outside Linux.

    These are heap, KV cache, scratch and copies of weights: memory the system cannot drop and read again. The mapped
    weight file does not count, because the page cache holds it and other processes can share it.

    Source: ``Anonymous`` and ``Swap`` of ``/proc/self/smaps_rollup`` (proc(5)).
    """
    anonymous = _proc_kib("smaps_rollup", "Anonymous")
    return None if anonymous is None else anonymous + (_proc_kib("smaps_rollup", "Swap") or 0)


def _proc_kib(name: str, field: str) -> int | None:
    """A line ``Field:   123 kB`` of a file in ``/proc/self``, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", _read(Path("/proc/self", name)) or "", re.MULTILINE)
    return int(found[1]) * KIB if found else None


def _meminfo(root: Path) -> dict[str, int]:
    """The entries of ``/proc/meminfo`` in bytes."""
    text = _read(root / "proc/meminfo") or ""
    return {key: int(kib) * KIB for key, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def _memory_groups(root: Path) -> list[tuple[int, int]]:
    """(limit, bytes in use that cannot be dropped) of every control group above this process that has a limit."""
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
            limits.append((int(limit), max(int(used) - (int(droppable[1]) if droppable else 0), 0)))
    return limits


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
