"""What this process takes of the machine's memory, as the operating system counts it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_KIB = 1024


def peak_rss_bytes() -> int | None:
    """The most memory this process has had resident, mapped weight pages included; None where nobody counts.

    Source: ``VmHWM`` of ``/proc/self/status`` (proc(5)); elsewhere ``ru_maxrss`` of getrusage(2).
    """
    status = _proc_kib("status", "VmHWM")
    if status is not None:
        return status
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIB  # macOS counts bytes, the others KiB


def reset_peak() -> bool:
    """Let :func:`peak_rss_bytes` count from now on; False where the system cannot.

    Source: ``/proc/self/clear_refs`` (proc(5)), 5: "reset the peak resident set size to the process's current".
    """
    before = _proc_kib("status", "VmHWM")
    try:
        Path("/proc/self/clear_refs").write_text("5\n", encoding="ascii")
    except OSError:
        return False
    return before is not None


def private_bytes() -> int | None:
    """Memory that only this process holds and the system cannot drop and read again: heap, KV cache, scratch, copies of
    weights; not the mapped weight file, which other processes share and the page cache owns. None outside Linux.

    Source: ``Anonymous`` and ``Swap`` of ``/proc/self/smaps_rollup`` (proc(5)).
    """
    anonymous = _proc_kib("smaps_rollup", "Anonymous")
    return None if anonymous is None else anonymous + (_proc_kib("smaps_rollup", "Swap") or 0)


def _proc_kib(name: str, field: str) -> int | None:
    """A ``Field:   123 kB`` line of a file below /proc/self, in bytes."""
    try:
        text = Path("/proc/self", name).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * _KIB if found else None
