"""The best model for a device, and the machine a model needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import DeviceProfile, Sourced, load_device
from edgekit.devices.profile import Budget, Bytes, Memory
from edgekit.errors import BudgetError, ContextLengthError, UsageError
from edgekit.planning.budget import UserLimits
from edgekit.planning.choice import as_requested, best_recipe, check_budget, fits_the_device, needed_machine, plan_each
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.recipes import all_recipes, load_recipe
from edgekit.scheme import QuantizationConfig, QuantizationOverrides

RECIPES = all_recipes()


SMALL, MIDDLE, LARGE = (load_recipe(f"{name}") for name in (
    "smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b"
))  # fmt: skip


PI = load_device("pi")


def _device(usable_bytes: int, name: str = "laptop") -> DeviceProfile:
    """The laptop with another amount of memory."""
    size = Sourced(Bytes(usable_bytes), "made up")
    return replace(load_device(name), memory=Memory(total=size, usable=size))


@pytest.mark.parametrize(
    ("usable_gb", "expected"),
    [
        (64, "deepseek-r1-0528-qwen3-8b"),
        (4.9, "deepseek-r1-distill-qwen-7b"),
        (4, "qwen3-4b"),
        (2, "deepseek-r1-distill-qwen-1.5b"),
        (0.4, "smollm2-135m"),
    ],
)
def test_the_best_recipe_is_the_largest_that_fits(usable_gb: float, expected: str) -> None:
    assert best_recipe(RECIPES, _device(round(usable_gb * 10**9))).name == expected


def test_a_reasoning_model_is_preferred_to_a_larger_one() -> None:
    larger = replace(LARGE, reasoning=False)
    assert best_recipe([larger, MIDDLE, SMALL], _device(10**11)) == MIDDLE


def test_when_nothing_fits_the_smallest_need_is_named() -> None:
    with pytest.raises(BudgetError, match=r"smollm2-135m, needs 23\d MB, and 100 MB are usable"):
        best_recipe(RECIPES, _device(10**8))


@pytest.mark.parametrize(
    ("device", "context", "limit", "hint"),
    [
        (_device(10**8), 1, None, "choose a device with more memory; edgekit devices lists them"),
        (_device(10**8), None, None, "choose a device with more memory; edgekit devices lists them"),
        (_device(200 * 10**6), None, None, "try a shorter --context"),
        (PI, 1, 10**8, "raise the limit on memory, --max-memory"),
        (PI, None, 200 * 10**6, "try a shorter --context"),
    ],
)
def test_the_hint_is_one_that_helps(device: DeviceProfile, context: int | None, limit: int | None, hint: str) -> None:
    with pytest.raises(BudgetError, match="no model fits") as caught:
        best_recipe(RECIPES, device, context, PlanOptions(limits=UserLimits(memory_bytes=limit)))
    assert caught.value.hint == hint


def test_only_a_limit_of_the_user_is_missed() -> None:
    limited = PlanOptions(limits=UserLimits(memory_bytes=10**8))
    assert fits_the_device(plan(SMALL, PI, options=limited), PI)
    assert not fits_the_device(plan(load_recipe("deepseek-r1-671b"), PI, options=limited), PI)


def test_models_that_cannot_be_planned_as_requested_are_left_out_with_a_reason() -> None:
    plans, refused = plan_each(RECIPES, PI, 16384, PlanOptions(prompt_tokens=10_000))
    assert refused["smollm2-135m"] == "at most 8192 tokens"
    assert {*plans, *refused} == {recipe.name for recipe in RECIPES}
    _, refused = plan_each(RECIPES, PI, options=PlanOptions(prompt_tokens=4097))
    assert set(refused.values()) == {"the prompt does not fit"}
    of_all = as_requested(RECIPES, QuantizationOverrides(4.6))
    plans, refused = plan_each(of_all, PI)
    assert refused == {"smollm2-135m": "cannot reach this mean of bits"}
    assert best_recipe(of_all, PI).name in plans
    with pytest.raises(UsageError, match="a mean of 3 bits per weight was requested"):
        best_recipe(as_requested(RECIPES, QuantizationOverrides(3.0)), PI)


def test_changes_are_made_to_every_recipe_that_they_apply_to() -> None:
    floats = replace(MIDDLE, quantization=QuantizationConfig(None, None, None))
    calibrated = QuantizationOverrides(method="gptq")
    (found,) = as_requested([floats, SMALL], calibrated, reasoning=True)
    assert (found.name, found.quantization.method, found.reasoning) == (SMALL.name, "gptq", True)
    assert as_requested([floats, SMALL]) == (floats, SMALL)
    with pytest.raises(UsageError, match="nothing to calibrate"):
        as_requested([floats], calibrated)


def test_a_context_leaves_out_the_models_that_cannot_hold_it() -> None:
    assert best_recipe(RECIPES, _device(3 * 10**9), context=16384).name == "deepseek-r1-distill-qwen-1.5b"
    with pytest.raises(ContextLengthError, match="200000 tokens was requested; the models allow 1 to 131072"):
        best_recipe(RECIPES, _device(10**11), context=200_000)


def test_a_budget_nothing_reaches_says_by_how_much() -> None:
    with pytest.raises(BudgetError, match=r"nearest is smollm2-135m: .* 100000 requested: 1\d\d\d times too slow"):
        best_recipe(RECIPES, PI, options=PlanOptions(limits=UserLimits(decode_tok_s=100_000)))


def test_a_model_that_is_fast_enough_is_preferred_to_a_larger_one() -> None:
    assert plan(LARGE, PI).fits
    assert best_recipe(RECIPES, PI) == MIDDLE
    unhurried = replace(PI, budget=Budget())
    assert best_recipe(RECIPES, unhurried).name == "deepseek-r1-0528-qwen3-8b"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deepseek-r1-distill-qwen-14b", "a machine with 16 GB"),
        ("deepseek-r1-distill-llama-70b", "NVIDIA Jetson AGX Orin 64GB"),
        ("deepseek-r1-671b", "a server with 512 GB of main memory or 6 accelerators of 80 GB"),
    ],
)
def test_large_models_are_told_the_class_of_machine_they_need(name: str, words: str) -> None:
    devices = [load_device(n) for n in ("pi", "laptop", "jetson-agx-orin-64gb")]
    assert words in needed_machine(plan(load_recipe(name), PI), devices)


def test_only_plan_only_recipes_are_no_choice() -> None:
    with pytest.raises(BudgetError, match="no recipe to choose from: every recipe is plan-only"):
        best_recipe([load_recipe("deepseek-r1-671b")], PI)


def test_a_plan_that_does_not_fit_is_refused_with_both_numbers_and_alternatives() -> None:
    planned = plan(SMALL, _device(10**8), candidates=RECIPES)
    with pytest.raises(
        BudgetError, match=r"smollm2-135m at a context of 4096 tokens on .* needs 23\d MB; 100 MB are"
    ) as e:
        check_budget(planned)
    assert e.value.hint == "--anyway builds it regardless"
    larger = plan(load_recipe("deepseek-r1-distill-qwen-7b"), _device(round(2.9e9)), candidates=RECIPES)
    with pytest.raises(BudgetError) as e:
        check_budget(larger)
    assert e.value.hint.startswith("alternatives: ")
    assert "deepseek-r1-distill-qwen-1.5b needs" in e.value.hint
    assert e.value.hint.endswith("; --anyway builds it regardless")


@pytest.mark.parametrize(
    ("need_gb", "words"),
    [
        (6, "a machine with 8 GB of memory; edgekit has no profile of such a device"),
        (30, "a machine with 64 GB of memory; edgekit has no profile of such a device"),
        (
            300,
            "a server with 512 GB of main memory or 5 accelerators of 80 GB; edgekit has no profile of such a device",
        ),
    ],
)
def test_without_a_profile_the_size_is_one_that_memory_is_sold_in(need_gb: int, words: str) -> None:
    planned = plan(SMALL, PI)
    large = replace(planned, memory=replace(planned.memory, loading=need_gb * 10**9, runtime=0, tokenizer=0))
    assert needed_machine(large, []).startswith(words)


def test_the_same_kind_of_machine_is_preferred() -> None:
    planned = plan(load_recipe("deepseek-r1-distill-qwen-14b"), load_device("jetson"))
    devices = [load_device(name) for name in ("jetson", "laptop", "jetson-orin-nx-16gb", "jetson-agx-orin-64gb")]
    assert needed_machine(planned, devices) == "a machine with 16 GB of memory, such as NVIDIA Jetson Orin NX 16GB"
