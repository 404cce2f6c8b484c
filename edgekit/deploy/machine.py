"""This machine as a receipt describes it: processor, memory, clocks, temperatures, power mode. docs/receipt.md has the
files that are read; ``native/run/host.cpp`` reads the same ones.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from .. import host
from .receipt import Clock, Machine, Temperature


def describe_machine(root: Path | None = None) -> Machine:
    """Describe this machine.

    Args:
        root: The folder that holds ``proc``, ``sys``, ``etc`` and ``var``; None for this machine.

    Raises:
        NativeLibraryError: The native library is missing.
    """
    top = root or Path("/")
    memory, processor = host.memory(root), host.processor(root)
    system = platform.uname()
    return Machine(
        system=f"{system.system} {system.release}",
        machine=system.machine or None,
        board=_read(top / "proc/device-tree/model"),
        processor=processor.model,
        isa=processor.isa,
        cores=host.cores(root).threads,
        memory_bytes=None if memory is None else memory.total_bytes,
        available_bytes=None if memory is None else memory.available_bytes,
        clocks=_clocks(top),
        temperatures=_temperatures(top),
        power_mode=_power_mode(top),
    )


def _clocks(top: Path) -> tuple[Clock, ...]:
    return tuple(
        Clock(
            cpus=_read(policy / "affected_cpus"),
            mhz=_number(policy / "scaling_cur_freq"),
            max_mhz=_number(policy / "cpuinfo_max_freq"),
            governor=_read(policy / "scaling_governor"),
        )
        for policy in _folders(top / "sys/devices/system/cpu/cpufreq", "policy")
    )


def _temperatures(top: Path) -> tuple[Temperature, ...]:
    zones = _folders(top / "sys/class/thermal", "thermal_zone")
    found = [(_read(zone / "type"), _number(zone / "temp")) for zone in zones]
    return tuple(Temperature(name, celsius) for name, celsius in found if celsius is not None)


def _power_mode(top: Path) -> str | None:
    """The mode of nvpmodel: its name, otherwise its number. The status file has a line such as ``pmode:0002``."""
    status = re.search(r":\s*(\d{1,9})\b", _read(top / "var/lib/nvpmodel/status") or "")
    if status is None:
        return None
    number = int(status[1])
    names = re.findall(r"<\s*POWER_MODEL\s+ID=(\d{1,9})\s+NAME=(\S+)\s*>", _read(top / "etc/nvpmodel.conf") or "")
    return next((name for found, name in names if int(found) == number), str(number))


def _folders(folder: Path, prefix: str) -> list[Path]:
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.startswith(prefix))
    except OSError:
        return []


def _number(path: Path) -> float | None:
    """A file with thousandths of a unit (kHz, millidegrees) in units."""
    text = _read(path) or ""
    return int(text) / 1000 if re.fullmatch(r"-?\d{1,15}", text) else None


def _read(path: Path) -> str | None:
    """The text of a small file; None if it is empty or cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\0") or None
    except OSError:
        return None
