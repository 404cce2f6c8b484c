"""Intervals as text."""

from __future__ import annotations

import pytest

from edgekit.cli._intervals import show_seconds, show_speed
from edgekit.planning.efficiency import Interval


@pytest.mark.parametrize(
    ("interval", "shown"),
    [(None, "unknown"), (Interval(11.4, 14.2, 18.0), "14 (11-18)"), (Interval(0.51, 1.23, 2.34), "1.2 (0.51-2.3)")],
)
def test_a_speed_has_as_many_digits_as_are_known(interval: Interval | None, shown: str) -> None:
    assert show_speed(interval) == shown


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        (None, "unknown"),
        (Interval(0.028, 0.063, 0.14), "63 ms (28-140)"),
        (Interval(0.29, 0.64, 1.4), "0.64 s (0.29-1.4)"),
    ],
)
def test_a_time_has_the_unit_of_its_upper_bound(interval: Interval | None, shown: str) -> None:
    assert show_seconds(interval) == shown
