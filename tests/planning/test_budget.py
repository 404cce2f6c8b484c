"""Limits: the user's refuse a plan, the device's only warn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import Sourced, load_device
from edgekit.devices.profile import Budget, Bytes
from edgekit.errors import UsageError
from edgekit.planning.budget import Limit, UserLimits, find_limits, show_times, usable_memory
from edgekit.planning.choice import check_budget
from edgekit.planning.efficiency import Interval
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.recipes import load_recipe

PI = load_device("pi")


SMALL, MIDDLE, LARGE = (load_recipe(f"{name}") for name in (
    "smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b"
))  # fmt: skip


@pytest.mark.parametrize(("wanted", "verdict"), [(7, "met"), (9, "likely"), (11, "doubtful"), (13, "missed")])
def test_a_speed_is_held_to_its_interval(wanted: float, verdict: str) -> None:
    found = find_limits(PI, UserLimits(decode_tok_s=wanted), None, Interval(8, 10, 12))
    limit = next(limit for limit in found if limit.name == "decode_tok_s")
    assert limit.verdict == verdict
    assert limit.refused is (verdict in ("doubtful", "missed"))
    assert limit.short_by == pytest.approx(wanted / 10)


@pytest.mark.parametrize(("wanted", "verdict"), [(13, "met"), (11, "likely"), (9, "doubtful"), (7, "missed")])
def test_a_time_is_held_to_its_interval(wanted: float, verdict: str) -> None:
    found = find_limits(PI, UserLimits(ttft_s=wanted), Interval(8, 10, 12), None)
    assert next(limit for limit in found if limit.name == "ttft_s").verdict == verdict


def test_the_devices_own_limits_refuse_nothing() -> None:
    slow = plan(LARGE, PI)
    assert [limit.verdict for limit in slow.limits] == ["doubtful", "missed"]
    assert slow.acceptable
    check_budget(slow)


def test_a_limit_nothing_is_known_about_is_not_refused() -> None:
    found = plan(SMALL, load_device("cpu"), options=PlanOptions(limits=UserLimits(decode_tok_s=10)))
    assert [limit.verdict for limit in found.limits if limit.asked] == ["unknown"]
    assert found.acceptable


def test_the_least_of_the_memories_counts() -> None:
    asked = UserLimits(memory_bytes=10**9)
    assert usable_memory(PI, asked) == (10**9, "the requested memory budget")
    budget = replace(PI, budget=Budget(memory=Sourced(Bytes(5 * 10**8), "house rules")))
    assert usable_memory(budget, asked) == (5 * 10**8, "the device's budget: house rules")
    assert not plan(MIDDLE, PI, options=PlanOptions(limits=asked)).fits


def test_a_device_without_its_desktop_has_more_memory() -> None:
    jetson = load_device("jetson")
    headless = jetson.memory.usable_headless
    assert headless is not None
    bytes_, source = usable_memory(jetson, UserLimits(), headless=True)
    assert bytes_ == headless.value > usable_memory(jetson, UserLimits())[0]
    assert headless.source in source
    assert usable_memory(jetson, UserLimits(memory_bytes=10**9), headless=True)[0] == 10**9
    assert not plan(LARGE, jetson, options=PlanOptions("cuda")).fits
    assert plan(LARGE, jetson, options=PlanOptions("cuda", headless=True)).fits


def test_a_device_that_nobody_described_without_a_desktop_is_refused() -> None:
    with pytest.raises(UsageError, match=r"laptop-16gb has no memory\.usable_headless"):
        plan(SMALL, load_device("laptop"), options=PlanOptions(headless=True))


@pytest.mark.parametrize("key", ["ttft_s", "decode_tok_s", "memory_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_that_cannot_be(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{key} is"):
        UserLimits(**{key: value})  # type: ignore[arg-type]


def test_a_limit_in_words() -> None:
    expected = plan(SMALL, PI).latency.decode_full_tok_s
    assert expected is not None
    words = Limit("decode_tok_s", 2 * expected.mid, True, expected).describe()
    assert words.startswith(f"{expected.mid:.3g} tok/s at the end of the context expected ({expected.low:.3g} to ")
    assert words.endswith("requested: 2 times too slow")
    assert Limit("ttft_s", 1.0, True, None).describe() == "ttft_s is unknown"


@pytest.mark.parametrize(
    ("factor", "words"), [(1.234, "1.2"), (9.96, "10"), (12.6, "13"), (123.4, "123"), (4567, "4567")]
)
def test_factors_have_two_digits(factor: float, words: str) -> None:
    assert show_times(factor) == words
