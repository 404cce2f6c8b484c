"""Parses and formats bytes, rates and durations with their units."""

from __future__ import annotations

import re
from decimal import Decimal

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_BYTE_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1024**4,
}  # fmt: skip


def parse_bytes(text: str | int) -> int:
    """Parse a size such as ``"5.2 GB"`` (10^9), ``"8 GiB"`` (2^30) or ``4096``.

    Args:
        text: A number with an optional unit in upper or lower case.

    Returns:
        The size in bytes.

    Raises:
        ValueError: The number or the unit is not valid, or the size is 8 EiB or more.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(text))
    if match is None or match[2].lower() not in _BYTE_UNITS:
        raise ValueError(f"{text!r} is not a size; write a number and one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB")
    size = float(match[1]) * _BYTE_UNITS[match[2].lower()]
    if not size < 1 << 63:
        raise ValueError(f"{text!r} is not a size: it must be below 8 EiB")
    return round(size)


def format_bytes(count: float) -> str:
    """Format a size with three significant digits in powers of ten: ``1.02 GB``, ``97.9 MB``, ``512 B``."""
    return _with_prefix(count, {"TB": 10**12, "GB": 10**9, "MB": 10**6, "kB": 10**3}) or f"{count:.0f} B"


def format_count(count: float) -> str:
    """Format a number of things: ``1.78 B`` parameters, ``135 M``, ``4096``."""
    return _with_prefix(count, {"B": 10**9, "M": 10**6}) or f"{count:.0f}"


def _with_prefix(count: float, units: dict[str, int]) -> str:
    """``count`` with three significant digits in the first of the units, largest first, that it reaches; else empty."""
    for unit, size in units.items():
        if abs(count) >= size:
            value = count / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return ""


def format_seconds(seconds: float) -> str:
    """Format a duration: ``12 ms``, ``3.4 s``, ``2 min 05 s``, ``1 h 02 min``."""
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
    """Format a rate: ``format_rate(26.4e9, "B")`` -> ``26.4 GB/s``; ``format_rate(17.6, "tok")`` -> ``17.6 tok/s``."""
    if unit == "B":
        return format_bytes(per_second) + "/s"
    return f"{per_second:.{2 if per_second < 10 else 1}f} {unit}/s"


def format_plain(value: float) -> str:
    """Format a number with up to ten significant digits and without an exponent, as the options accept it."""
    return f"{Decimal(f'{value:.10g}'):f}"


_SECOND_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
_RATE_UNITS = {"": 1.0, "tok/s": 1.0, "tokens/s": 1.0, "tok/min": 1 / 60}
_LARGEST = 1e9  # seconds, or tokens per second


def parse_seconds(text: str) -> float:
    """Parse a duration such as ``"300 ms"``, ``"2 min"`` or ``"5"`` (seconds). Returns seconds.

    Raises:
        ValueError: The number or the unit is not valid, or the duration is not above 0 and at most 10^9.
    """
    return _parse_quantity(text, _SECOND_UNITS, "a duration")


def parse_token_rate(text: str) -> float:
    """Parse a speed such as ``"10 tok/s"`` or ``"10"`` (tokens per second). Returns tokens per second.

    Raises:
        ValueError: The number or the unit is not valid, or the speed is not above 0 and at most 10^9.
    """
    return _parse_quantity(text, _RATE_UNITS, "a speed")


def _parse_quantity(text: str, units: dict[str, float], what: str) -> float:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z/]*)\s*", text)
    if match is None or match[2].lower() not in units:
        known = ", ".join(unit for unit in units if unit)
        raise ValueError(f"{text!r} is not {what}; write a number and one of {known}")
    value = float(match[1]) * units[match[2].lower()]
    if not 0 < value <= _LARGEST:
        raise ValueError(f"{text!r} must be above 0 and at most {_LARGEST:.0e}")
    return value
