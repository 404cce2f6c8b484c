"""Parse and print bytes, rates and seconds: the one place where unit prefixes are spelled out."""

from __future__ import annotations

import re

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_BYTE_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1024**4,
}  # fmt: skip


def parse_bytes(text: str | int) -> int:
    """Read a size such as ``"5.2 GB"`` (10^9), ``"8 GiB"`` (2^30) or ``4096``.

    Args:
        text: A number with an optional unit, upper or lower case.

    Returns:
        Whole bytes.

    Raises:
        ValueError: On a unit that is not known or a number that is not one.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(text))
    if match is None or match[2].lower() not in _BYTE_UNITS:
        raise ValueError(f"{text!r} is not a size; write a number and one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB")
    return round(float(match[1]) * _BYTE_UNITS[match[2].lower()])


def format_bytes(count: float) -> str:
    """Print a size with three significant digits in powers of ten: ``1.02 GB``, ``97.9 MB``, ``512 B``."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(count) >= size:
            value = count / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{count:.0f} B"


def format_count(count: float) -> str:
    """Print a number of things: ``1.78 B`` parameters, ``135 M``, ``4096``."""
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if abs(count) >= size:
            value = count / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{count:.0f}"


def format_seconds(seconds: float) -> str:
    """Print a duration: ``12 ms``, ``3.4 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_rate(per_second: float, unit: str) -> str:
    """Print a rate: ``format_rate(26.4e9, "B")`` -> ``26.4 GB/s``; ``format_rate(17.6, "tok")`` -> ``17.6 tok/s``."""
    if unit == "B":
        return format_bytes(per_second) + "/s"
    return f"{per_second:.{2 if per_second < 10 else 1}f} {unit}/s"


_SECOND_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
_RATE_UNITS = {"": 1.0, "tok/s": 1.0, "tokens/s": 1.0, "tok/min": 1 / 60}


def parse_seconds(text: str) -> float:
    """Read a duration such as ``"300 ms"``, ``"2 min"`` or ``5``, which is seconds.

    Raises:
        ValueError: On a unit that is not known, or a number that is not one or not above 0.
    """
    return _parse_quantity(text, _SECOND_UNITS, "a duration")


def parse_token_rate(text: str) -> float:
    """Read a speed such as ``"10 tok/s"`` or ``10``, which is tokens per second.

    Raises:
        ValueError: On a unit that is not known, or a number that is not one or not above 0.
    """
    return _parse_quantity(text, _RATE_UNITS, "a speed")


def _parse_quantity(text: str, units: dict[str, float], what: str) -> float:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z/]*)\s*", text)
    if match is None or match[2].lower() not in units:
        known = ", ".join(unit for unit in units if unit)
        raise ValueError(f"{text!r} is not {what}; write a number and one of {known}")
    value = float(match[1]) * units[match[2].lower()]
    if value <= 0:
        raise ValueError(f"{text!r} is not above 0")
    return value
