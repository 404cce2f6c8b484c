"""Efficiencies: an unseen class relies on its processor and has a wider interval."""

from __future__ import annotations

import pytest

from edgekit.planning.efficiency import Effect, EfficiencyModel, Interval, Levels
from edgekit.planning.fitted import DECODE


def test_an_unseen_class_leans_on_its_kind_and_is_less_certain() -> None:
    seen = DECODE.estimate(Levels("cpu", "laptop", "native", "4bit"))
    unseen = DECODE.estimate(Levels("cpu", "toaster", "native", "4bit"))
    assert (seen.unknown, unseen.unknown) == ("", "class")
    assert (seen.calibrated, unseen.calibrated) == (True, False)
    assert unseen.log_deviation > seen.log_deviation
    assert unseen.log_mean == pytest.approx(seen.log_mean - DECODE.effects["class"]["laptop on cpu"].mean)


def test_less_is_known_of_an_engine_that_the_class_or_the_kind_of_processor_has_not_seen() -> None:
    known, new_here, new = (
        DECODE.estimate(Levels("shared-gpu", "jetson", name, "4bit")) for name in ("ggml", "mlx", "onnxruntime")
    )
    assert known.log_deviation < new_here.log_deviation < new.log_deviation
    assert (known.unknown, new_here.unknown, new.unknown) == ("", "", "engine")


def test_a_class_is_one_on_a_kind_of_processor() -> None:
    """Nothing that was published of a Jetson's GPU says how fast its cores are."""
    assert DECODE.estimate(Levels("cpu", "jetson", "ggml", "4bit")).unknown == "class"


def test_kinds_that_differ_most_are_the_least_certain() -> None:
    """Of a processor, a phone's graphics and an NPU that nobody has measured."""
    unseen = [DECODE.estimate(Levels(kind, "toaster", "ggml", "4bit")).log_deviation for kind in
              ("cpu", "mobile-gpu", "npu")]  # fmt: skip
    assert unseen == sorted(unseen)
    assert unseen[-1] > 2 * unseen[0]
    lumped, plain = (DECODE.estimate(Levels("shared-gpu", name, "ggml", "4bit")) for name in ("laptop-gpu", "jetson"))
    assert lumped.log_deviation > 1.5 * plain.log_deviation


def test_the_variance_by_hand() -> None:
    model = EfficiencyModel(
        Effect(-0.5, 0.01, 9),
        {
            "processor": {"cpu": Effect(0.1, 0.02, 9)},
            "class": {"pi on cpu": Effect(0.2, 0.03, 4)},
            "engine": {"fast on cpu": Effect(0.05, 0.04, 3)},
            "format": {},
            "engine in class": {"fast in pi on cpu": Effect(-0.05, 0.001, 2)},
        },
        {
            name: {"cpu": at / 10}
            for at, name in enumerate(("processor", "class", "engine", "format", "engine in class"))
        },
        {"cpu": 0.005, "server": 0.5},
        0.006,
        0.007,
    )
    rest = 0.005 + 0.006 + 0.007 + 0.3  # a format without rows
    seen = model.estimate(Levels("cpu", "pi", "fast", "4bit"))
    assert seen.log_mean == pytest.approx(-0.5 + 0.1 + 0.2 + 0.05 - 0.05)
    assert seen.log_deviation**2 == pytest.approx(0.001 + rest)
    other_engine = model.estimate(Levels("cpu", "pi", "slow", "4bit"))
    assert other_engine.log_deviation**2 == pytest.approx(0.03 + 0.2 + 0.4 + rest)
    other_class = model.estimate(Levels("cpu", "server", "fast", "4bit"))
    assert other_class.log_deviation**2 == pytest.approx(0.02 + 0.1 + 0.04 + 0.4 + rest + 0.495)


def test_intervals() -> None:
    interval = Interval.of_log(10.0, 0.1)
    assert interval.low < 10.0 < interval.high
    assert interval.low * interval.high == pytest.approx(100.0)
    assert interval.scaled(2.0).mid == 20.0
    assert Interval(0.123456, 1.23456, 12345.6).to_json() == {"low": 0.1235, "mid": 1.235, "high": 12350.0}
    with pytest.raises(ValueError, match=r"expected low <= mid <= high, got 3\.0, 2\.0, 4\.0"):
        Interval(3.0, 2.0, 4.0)
