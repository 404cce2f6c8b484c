"""Expected values and prediction intervals as text."""

from __future__ import annotations

from ..planning.efficiency import Interval


def show_speed(interval: Interval | None) -> str:
    """``14 (11-18)``: the expected speed and its 80 % prediction interval."""
    return "{} ({})".format(*expected_and_interval(interval, "")) if interval else "unknown"


def show_seconds(interval: Interval | None) -> str:
    """``0.41 s (0.20-0.80)``: the expected time and its 80 % prediction interval."""
    return "{} ({})".format(*expected_and_interval(interval, " s")) if interval else "unknown"


def expected_and_interval(interval: Interval | None, unit: str) -> tuple[str, str]:
    """The expected value with its unit, and the prediction interval. Times below a second are in milliseconds."""
    if interval is None:
        return "unknown", ""
    factor, unit = (1000, " ms") if unit == " s" and interval.high < 1 else (1, unit)
    low, mid, high = (_digits(value * factor) for value in (interval.low, interval.mid, interval.high))
    return f"{mid}{unit}", f"{low}-{high}"


def _digits(value: float) -> str:
    """Two significant digits, or all digits before the point. More would pretend to a precision the model lacks."""
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
