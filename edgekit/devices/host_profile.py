"""This host as a device profile: memory, cores and instruction set as the system reports them, bandwidth unknown.

``probe/machine.py`` adds the bandwidth and the speed of the kernels, which have to be measured.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

from .. import host
from ..errors import DeviceProfileError
from .profile import TARGETS, Bytes, Cpu, DeviceProfile, HostDefaults, Memory, Sourced


def host_profile(
    defaults: HostDefaults, root: Path | None = None, affinity: Collection[int] | None = None
) -> DeviceProfile:
    """Describe the machine this runs on.

    Args:
        defaults: What the profile's file says in words.
        root: The folder that holds ``proc`` and ``sys``; None for this machine.
        affinity: Numbers of the hardware threads this process may use; None to ask the system.

    Raises:
        DeviceProfileError: The system does not report its memory.
        NativeLibraryError: The native library is missing.
    """
    words = {f.name: getattr(defaults, f.name) for f in fields(HostDefaults)}
    words["target"] = words["target"] or _target()
    return DeviceProfile(**words, memory=_memory(root), cpu=_cpu(root, affinity))


def _target() -> str:
    """What programs for this host are compiled for; empty if edgekit does not know it."""
    names = {"linux": "linux", "darwin": "macos"}
    found = f"{names.get(sys.platform, sys.platform)}-{platform.machine()}"
    return found if found in TARGETS else ""


def _memory(root: Path | None) -> Memory:
    found = host.memory(root)
    if found is None:
        raise DeviceProfileError(
            "cannot describe this host: the system does not report its memory in /proc/meminfo",
            hint="name another device (edgekit devices lists them), or write a profile of this host",
        )
    available = max(min(found.available_bytes, found.total_bytes), 1)
    return Memory(
        total=Sourced(Bytes(found.total_bytes), found.total_source),
        usable=Sourced(Bytes(available), found.available_source),
    )


def _cpu(root: Path | None, affinity: Collection[int] | None) -> Cpu:
    found, cores = host.processor(root, affinity), host.cores(root, affinity)
    count = found.hardware_threads
    return Cpu(
        description=Sourced(
            f"{count} hardware thread{'s' if count != 1 else ''} of {found.model}",
            "/proc/cpuinfo and the process's CPU affinity",
        ),
        cores=Sourced(
            cores.threads,
            "fast physical cores within the CPU affinity and CPU quota"
            if cores.is_reported
            else "hardware threads within the CPU affinity and CPU quota; the system does not report shared cores",
        ),
        isa=Sourced(found.isa, "/proc/cpuinfo"),
    )
