"""Limits: the user's refuse, the device's only warn; what nothing reaches is told by how much."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import Sourced, load_device
from edgekit.devices.profile import Budget, Bytes
from edgekit.errors import BudgetError
from edgekit.planning.budget import Wanted, find_limits, usable_memory
from edgekit.planning.choice import best_recipe, check_budget, needed_machine
from edgekit.planning.efficiency import Interval
from edgekit.planning.plan import Options, plan
from edgekit.recipes import all_recipes, load_recipe

PI = load_device("pi")
RECIPES = all_recipes()
SMALL, MIDDLE, LARGE = (
    load_recipe(name) for name in ("smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b")
)


@pytest.mark.parametrize(("wanted", "verdict"), [(7, "met"), (9, "likely"), (11, "doubtful"), (13, "missed")])
def test_a_speed_is_held_to_its_interval(wanted: float, verdict: str) -> None:
    found = find_limits(PI, Wanted(decode_tok_s=wanted), None, Interval(8, 10, 12))
    limit = next(limit for limit in found if limit.name == "decode_tok_s")
    assert limit.verdict == verdict
    assert limit.refused is (verdict in ("doubtful", "missed"))
    assert limit.short_by == pytest.approx(wanted / 10)


@pytest.mark.parametrize(("wanted", "verdict"), [(13, "met"), (11, "likely"), (9, "doubtful"), (7, "missed")])
def test_a_time_is_held_to_its_interval(wanted: float, verdict: str) -> None:
    found = find_limits(PI, Wanted(ttft_s=wanted), Interval(8, 10, 12), None)
    assert next(limit for limit in found if limit.name == "ttft_s").verdict == verdict


def test_the_devices_own_limits_refuse_nothing() -> None:
    slow = plan(LARGE, PI)
    assert [limit.verdict for limit in slow.limits] == ["likely", "missed"]
    assert slow.acceptable
    check_budget(slow)


def test_a_limit_nothing_is_known_about_is_not_refused() -> None:
    found = plan(SMALL, load_device("cpu"), options=Options(wanted=Wanted(decode_tok_s=10)))
    assert [limit.verdict for limit in found.limits if limit.asked] == ["unknown"]
    assert found.acceptable


def test_the_least_of_the_memories_counts() -> None:
    asked = Wanted(memory_bytes=10**9)
    assert usable_memory(PI, asked) == (10**9, "the memory budget asked for")
    budget = replace(PI, budget=Budget(memory=Sourced(Bytes(5 * 10**8), "house rules")))
    assert usable_memory(budget, asked) == (5 * 10**8, "the device's budget: house rules")
    assert not plan(MIDDLE, PI, options=Options(wanted=asked)).fits


def test_the_users_limit_brings_offers_that_keep_it() -> None:
    options = Options(wanted=Wanted(decode_tok_s=9))
    asked = plan(LARGE, PI, candidates=RECIPES, devices=[load_device("rtx-3060")], options=options)
    assert asked.fits
    assert not asked.acceptable
    offers = {offer.kind: offer for offer in asked.offers}
    assert offers["model"].model == MIDDLE.name
    assert offers["device"].options == ("--device", "rtx-3060")
    with pytest.raises(
        BudgetError, match=r"does not keep the budget: 2\.\d+ tok/s .* 9 asked for: 3\.\d times too slow"
    ):
        check_budget(asked)


def test_int8_keys_and_values_are_offered_where_they_are_enough() -> None:
    full, halved = (plan(LARGE, PI, 4096, options=Options(kv_type=kind)) for kind in ("float16", "int8"))
    between = Wanted(memory_bytes=(full.memory.peak + halved.memory.peak) // 2)
    offers = {o.kind: o for o in plan(LARGE, PI, 4096, options=Options(wanted=between)).offers}
    assert offers["kv"].options == ("--kv-type", "int8")
    assert offers["kv"].total_bytes == halved.memory.peak


def test_a_budget_nothing_reaches_says_by_how_much() -> None:
    with pytest.raises(BudgetError, match=r"nearest is smollm2-135m: .* 100000 asked for: 1\d\d\d times too slow"):
        best_recipe(RECIPES, PI, options=Options(wanted=Wanted(decode_tok_s=100_000)))


def test_a_model_that_is_fast_enough_is_preferred_to_a_larger_one() -> None:
    assert plan(LARGE, PI).fits
    assert best_recipe(RECIPES, PI) == MIDDLE
    unhurried = replace(PI, budget=Budget())
    assert best_recipe(RECIPES, unhurried).name == "deepseek-r1-distill-llama-8b"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deepseek-r1-distill-qwen-14b", "a machine of 16 GB"),
        ("deepseek-r1-distill-llama-70b", "NVIDIA Jetson AGX Orin 64GB"),
        ("deepseek-r1-671b", "a server: 512 GB of memory for its processors, or 6 accelerators of 80 GB"),
    ],
)
def test_large_models_are_told_the_class_of_machine_they_need(name: str, words: str) -> None:
    devices = [load_device(n) for n in ("pi", "laptop", "jetson-agx-orin-64gb")]
    assert words in needed_machine(plan(load_recipe(name), PI), devices)


@pytest.mark.parametrize("key", ["ttft_s", "decode_tok_s", "memory_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_that_cannot_be(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{key} is"):
        Wanted(**{key: value})  # type: ignore[arg-type]
