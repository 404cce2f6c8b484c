"""This machine and this process: memory, cores and instruction set, as the operating system reports them.

Every part of edgekit that needs one of these figures asks here. The native library reads memory and cores, control
groups included. Importing this module is cheap: no numpy.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import native
from .units import KIB

# The extensions a kernel can be chosen by, as /proc/cpuinfo spells them: first x86, then Arm.
ISA_FLAGS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


def home_folder() -> Path:
    """The user's home folder; a folder that does not exist if neither $HOME nor the system names one."""
    try:
        return Path.home()
    except RuntimeError:  # a user without an entry in the system's list, as in a container
        return Path("/nonexistent")  # Debian's name for no home


def expanded(path: str | Path) -> Path:
    """A path with ``~`` replaced by a home folder; unchanged if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def base_folder(variable: str, default: str) -> Path:
    """A base directory of the user. A variable that is empty or not an absolute path counts as not set.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/.

    Args:
        variable: Such as ``XDG_CACHE_HOME``.
        default: The folder in the user's home.
    """
    base = os.environ.get(variable, "")
    return Path(base) if os.path.isabs(base) else home_folder() / default


def cache_folder() -> Path:
    """The folder for downloads, and for what was found out about this machine.

    $EDGEKIT_CACHE, otherwise $XDG_CACHE_HOME/edgekit, otherwise ~/.cache/edgekit.
    """
    if own := os.environ.get("EDGEKIT_CACHE"):
        return expanded(own).absolute()
    return base_folder("XDG_CACHE_HOME", ".cache") / "edgekit"


@dataclass(frozen=True)
class HostMemory:
    """The memory this process can use: the host's, or less where a control group above the process has a limit.

    Attributes:
        total_bytes: Most memory the process may use.
        available_bytes: What can be allocated before the system runs short; file pages it can drop count as free.
        total_source, available_source: What each figure was read from.
    """

    total_bytes: int
    available_bytes: int
    total_source: str
    available_source: str


@dataclass(frozen=True)
class HostCores:
    """The cores this process can use.

    Attributes:
        threads: Threads the arithmetic should use: one per fast physical core within the CPU affinity, fewer where a
            control group has a CPU quota. The rule and its reasons are in ``native/src/topology.h``.
        is_reported: Whether the system reports which hardware threads share a core; otherwise each counts as a core.
    """

    threads: int
    is_reported: bool


@dataclass(frozen=True)
class HostProcessor:
    """The processor.

    Attributes:
        model: Its name.
        hardware_threads: How many the process's CPU affinity allows.
        isa: Those of :data:`ISA_FLAGS` that it has.
    """

    model: str
    hardware_threads: int
    isa: tuple[str, ...]


def memory(root: Path | None = None) -> HostMemory | None:
    """The memory this process can use; None where the system does not report it.

    Args:
        root: The folder that holds ``proc`` and ``sys``; None for this machine.

    Raises:
        NativeLibraryError: The native library is missing.
    """
    info = native.MemoryInfo()
    if native.library().ek_host_memory(_root(root), ctypes.byref(info)) != native.OK:
        return None
    sources = (info.total_source.decode(errors="replace"), info.available_source.decode(errors="replace"))
    return HostMemory(int(info.total_bytes), int(info.available_bytes), *sources)


def available_memory() -> int | None:
    """Bytes this process can allocate before the system runs short of memory; None where that is not reported.

    Raises:
        NativeLibraryError: The native library is missing.
    """
    found = memory()
    return None if found is None else found.available_bytes


def cores(root: Path | None = None, affinity: Collection[int] | None = None) -> HostCores:
    """The cores this process can use.

    Args:
        root: The folder that holds ``proc`` and ``sys``; None for this machine.
        affinity: Numbers of the hardware threads that count; None for those this process may run on.

    Raises:
        NativeLibraryError: The native library is missing.
    """
    info = native.CoreInfo()
    cpus = None if affinity is None else (ctypes.c_int32 * len(affinity))(*sorted(affinity))
    status = native.library().ek_host_cores(_root(root), cpus, 0 if cpus is None else len(cpus), ctypes.byref(info))
    if status != native.OK:
        raise ValueError(f"affinity is {affinity}: {native.last_error()}")
    return HostCores(int(info.threads), bool(info.is_reported))


def physical_cores() -> int:
    """The number of threads the arithmetic should use: see :class:`HostCores`.

    Returns:
        At least 1.

    Raises:
        NativeLibraryError: The native library is missing.
    """
    return cores().threads


def processor(root: Path | None = None, affinity: Collection[int] | None = None) -> HostProcessor:
    """The processor, as Linux describes it in ``/proc/cpuinfo`` (proc(5)).

    Args:
        root: The folder that holds ``proc``; None for this machine.
        affinity: Numbers of the hardware threads this process may use; None to ask the system.
    """
    if affinity is None:
        affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cpuinfo = _read((root or Path("/")) / "proc/cpuinfo")
    model = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    listed = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = set(listed[1].split()) if listed else set()
    return HostProcessor(
        model=model[1].strip() if model else platform.machine() or "unknown processor",
        hardware_threads=len(affinity),
        isa=tuple(flag for flag in ISA_FLAGS if flag in flags),
    )


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


def address_space() -> int | None:
    """The bytes of address space that this process may use (``ulimit -v``); None if there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def resident_bytes() -> int | None:
    """The resident memory of this process in bytes, mapped weights included; None outside Linux.

    Source: ``VmRSS`` of ``/proc/self/status`` (proc(5)).
    """
    return _proc_kib("status", "VmRSS")


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


def drop_from_cache(path: Path) -> None:
    """Free the pages of a file that the system's cache holds, but not those that a process has mapped.

    Does nothing on systems without ``posix_fadvise``, or if the file cannot be opened.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError), path.open("rb") as file:
            os.fsync(file.fileno())  # pages that are yet to be written stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _root(root: Path | None) -> bytes | None:
    return None if root is None else os.fsencode(root)


def _proc_kib(name: str, field: str) -> int | None:
    """A line ``Field:   123 kB`` of a file in ``/proc/self``, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", _read(Path("/proc/self", name)), re.MULTILINE)
    return int(found[1]) * KIB if found else None


def _read(path: Path) -> str:
    """The text of a file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def return_freed_memory() -> None:
    """Return freed memory to the system where the C library keeps it for later (glibc's ``malloc_trim``)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(ctypes.c_size_t(0))
