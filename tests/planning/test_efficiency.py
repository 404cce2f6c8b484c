"""Efficiencies: an unseen class relies on its processor and has a wider interval."""

from __future__ import annotations

import pytest

from edgekit.planning.efficiency import Interval, Levels
from edgekit.planning.fitted import DECODE


def test_an_unseen_class_leans_on_its_kind_and_is_less_certain() -> None:
    seen = DECODE.estimate(Levels("cpu", "laptop", "native", "4bit"))
    unseen = DECODE.estimate(Levels("cpu", "toaster", "native", "4bit"))
    assert (seen.calibrated, unseen.calibrated) == (True, False)
    assert unseen.log_deviation > seen.log_deviation
    assert unseen.log_mean == pytest.approx(seen.log_mean - DECODE.effects["class"]["laptop"].mean)


def test_intervals() -> None:
    interval = Interval.of_log(10.0, 0.1)
    assert interval.low < 10.0 < interval.high
    assert interval.low * interval.high == pytest.approx(100.0)
    assert interval.scaled(2.0).mid == 20.0
    assert Interval(0.123456, 1.23456, 12345.6).to_json() == {"low": 0.1235, "mid": 1.235, "high": 12350.0}
    with pytest.raises(ValueError, match=r"expected low <= mid <= high, got 3\.0, 2\.0, 4\.0"):
        Interval(3.0, 2.0, 4.0)
