"""Does it fit, and what does instead."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.cli._quantization_options import QuantizationOptions
from edgekit.devices import DeviceProfile, Sourced, device_names, load_device
from edgekit.devices.profile import Bytes, Memory
from edgekit.errors import BudgetError, ContextLengthError, RecipeError, UnsupportedModelError
from edgekit.planning.choice import best_recipe
from edgekit.planning.plan import Options, plan
from edgekit.recipes import Recipe, all_recipes, load_recipe
from edgekit.scheme import QuantizationConfig, QuantizationScheme

RECIPES = all_recipes()
SMALL, MIDDLE, LARGE = (load_recipe(f"{name}") for name in (
    "smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b"
))  # fmt: skip


def _device(usable_bytes: int, name: str = "laptop") -> DeviceProfile:
    """The laptop with another amount of memory."""
    size = Sourced(Bytes(usable_bytes), "made up")
    return replace(load_device(name), memory=Memory(total=size, usable=size))


@pytest.mark.parametrize("device", device_names())
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_plans_on_every_device(recipe: Recipe, device: str) -> None:
    profile = load_device(device)
    planned = plan(recipe, profile, candidates=RECIPES)
    assert planned.fits is (planned.memory.peak <= profile.usable_bytes)
    assert planned.fits is not bool(planned.offers)
    for part, size in planned.memory.to_json().items():
        assert size > 0 or part == "repacking"
    known = profile.kind != "host"
    assert known is (planned.latency.decode_tok_s is not None)
    json.dumps(planned.to_json(), allow_nan=False)


def test_the_json_contract() -> None:
    shown = plan(SMALL, load_device("laptop"), context=1024).to_json()
    assert shown["model"] == "smollm2-135m"
    assert shown["device"] == "laptop-16gb"
    assert shown["context"] == 1024
    assert shown["fits"] is True
    assert {"weights", "kv_cache", "activations", "runtime", "total"} <= set(shown["memory_bytes"])
    assert shown["memory_bytes"]["total"] == sum(v for k, v in shown["memory_bytes"].items() if k != "total")
    assert shown["usable_bytes"] == 11_000_000_000
    for key in ("ttft_s", "decode_tok_s", "decode_full_tok_s"):
        assert 0 < shown[key]["low"] < shown[key]["mid"] < shown[key]["high"]
    assert shown["decode_full_tok_s"]["mid"] < shown["decode_tok_s"]["mid"]
    assert shown["calibrated"] is True
    assert shown["budget"]["decode_tok_s"]["verdict"] == "met"
    assert shown["offers"] == []


def test_what_exactly_fills_the_memory_fits() -> None:
    total = plan(SMALL, _device(10**12)).memory.peak
    assert plan(SMALL, _device(total)).fits
    assert not plan(SMALL, _device(total - 1)).fits


def test_the_default_context_is_the_devices_but_never_above_the_models() -> None:
    device = load_device("laptop")
    assert plan(SMALL, device).context == 4096
    assert plan(replace(SMALL, max_context=1000), device).context == 1000


@pytest.mark.parametrize("context", [0, -5, 8193])
def test_a_context_outside_the_models_range_is_an_error_that_names_both(context: int) -> None:
    with pytest.raises(ContextLengthError, match=rf"{context} tokens was asked for; allowed: 1 to 8192"):
        plan(SMALL, load_device("laptop"), context=context)


def test_quantization_replaces_the_recipes() -> None:
    device = load_device("laptop")
    scheme = QuantizationScheme(4, 128, True)
    smaller = plan(MIDDLE, device, quantization=QuantizationConfig(scheme, scheme, scheme))
    assert smaller.memory.weights < plan(MIDDLE, device).memory.weights
    assert smaller.quantization.lm_head == scheme


def test_the_accelerators_libraries_count() -> None:
    jetson, laptop = load_device("jetson"), load_device("laptop")
    assert jetson.accelerator is not None
    assert jetson.accelerator.runtime is not None
    extra = plan(SMALL, jetson).memory.runtime - plan(SMALL, laptop, options=Options("ort")).memory.runtime
    assert extra == jetson.accelerator.runtime.value


@pytest.mark.parametrize("fitting", [300, 2000, 4096, 7935, 8190])
def test_a_shorter_context_is_offered_and_is_the_longest_that_fits(fitting: int) -> None:
    device = _device(plan(LARGE, _device(10**12), context=fitting).memory.total)
    offer = next(o for o in plan(LARGE, device, context=8192).offers if o.kind == "context")
    assert offer.context == fitting // 256 * 256
    assert offer.options == ("--context", str(offer.context))
    assert plan(LARGE, device, context=offer.context).memory.total == offer.total_bytes <= device.usable_bytes
    assert not plan(LARGE, device, context=offer.context + 256).fits
    assert "8192" in offer.sentence


def test_fewer_bits_are_offered_at_the_same_context_when_that_is_enough() -> None:
    device = _device(plan(LARGE, _device(10**12)).memory.total - 1)
    offer = next(o for o in plan(LARGE, device).offers if o.kind == "bits")
    assert offer.options == ("--lm-head-bits", "4", "--block-size", "128")
    chosen = QuantizationOptions(lm_head_bits=4, block_size=128).apply(LARGE.quantization)
    assert plan(LARGE, device, quantization=chosen).memory.total == offer.total_bytes


def test_codes_of_a_checkpoint_cannot_get_fewer_bits() -> None:
    imported = replace(LARGE, quantization=replace(LARGE.quantization, method="imported"))
    assert "bits" not in {o.kind for o in plan(imported, _device(5 * 10**9)).offers}


def test_a_matrix_with_a_format_of_its_own_is_planned_with_it() -> None:
    eight = {"model.layers.0.mlp.down_proj": QuantizationScheme(8, 32, True)}
    mixed = replace(SMALL, quantization=replace(SMALL.quantization, matrices=eight))
    more = plan(mixed, _device(10**12)).memory.weights - plan(SMALL, _device(10**12)).memory.weights
    codes, zeros = 576 * 1536 // 2, 576 * 1536 // 32 // 2  # four more bits a weight, no zero points
    assert abs(more - (codes - zeros)) < 2 * 4096, "but for alignment"


def test_fewer_bits_and_a_shorter_context_are_offered_together_when_it_takes_both() -> None:
    chosen = QuantizationOptions(lm_head_bits=4, block_size=128).apply(LARGE.quantization)
    device = _device(plan(LARGE, _device(10**12), context=1024, quantization=chosen).memory.total)
    offers = {offer.kind: offer for offer in plan(LARGE, device).offers}
    assert "context" not in offers
    assert offers["bits"].options[-2:] == ("--context", "1024")
    assert offers["bits"].context == 1024


def test_no_fewer_bits_are_offered_where_there_are_none() -> None:
    scheme = QuantizationScheme(4, 128, True)
    smallest = QuantizationConfig(scheme, scheme, scheme)
    planned = plan(LARGE, _device(10**9), quantization=smallest, candidates=RECIPES)
    assert {offer.kind for offer in planned.offers} == {"model"} or planned.offers == ()


def test_float_parts_can_be_quantized_to_fit() -> None:
    floats = QuantizationConfig(None, None, None)
    offer = next(o for o in plan(MIDDLE, _device(2 * 10**9), quantization=floats).offers if o.kind == "bits")
    chosen = QuantizationOptions(bits=4, embedding_bits=4, lm_head_bits=4, block_size=128)
    assert offer.options == chosen.arguments()
    assert plan(MIDDLE, _device(2 * 10**9), quantization=chosen.apply(floats)).memory.total == offer.total_bytes


def test_the_largest_smaller_model_that_fits_is_offered() -> None:
    device = _device(3 * 10**9)
    offer = next(o for o in plan(LARGE, device, candidates=RECIPES).offers if o.kind == "model")
    assert offer.model == "deepseek-r1-distill-qwen-1.5b"
    assert offer.options == ("deepseek-r1-distill-qwen-1.5b",)
    longer = next(o for o in plan(LARGE, device, context=5000, candidates=RECIPES).offers if o.kind == "model")
    assert longer.options == ("deepseek-r1-distill-qwen-1.5b", "--context", "5000")


def test_plan_only_models_are_never_offered() -> None:
    huge = load_recipe("deepseek-r1-671b")
    offers = plan(huge, load_device("jetson-agx-orin-64gb"), candidates=RECIPES).offers
    assert [offer.model for offer in offers] == ["deepseek-r1-distill-llama-8b"]


def test_nothing_fits_a_tiny_device() -> None:
    assert plan(SMALL, _device(10**8), candidates=RECIPES).offers == ()


def test_the_671b_is_planned_from_its_stated_parameters() -> None:
    planned = plan(load_recipe("deepseek-r1-671b"), load_device("jetson"))
    assert planned.memory.weights == 671_026_419_200 * 9 // 16
    assert planned.memory.weight_groups is None
    assert "experts" in planned.plan_only
    assert planned.to_json()["plan_only"] == planned.plan_only


@pytest.mark.parametrize(
    ("usable_gb", "expected"),
    [
        (64, "deepseek-r1-distill-llama-8b"),
        (5.3, "deepseek-r1-distill-qwen-7b"),
        (2, "deepseek-r1-distill-qwen-1.5b"),
        (1, "smollm2-135m"),
    ],
)
def test_the_best_recipe_is_the_largest_that_fits(usable_gb: float, expected: str) -> None:
    assert best_recipe(RECIPES, _device(round(usable_gb * 10**9))).name == expected


def test_a_reasoning_model_is_preferred_to_a_larger_one() -> None:
    larger = replace(LARGE, reasoning=False)
    assert best_recipe([larger, MIDDLE, SMALL], _device(10**11)) == MIDDLE


def test_when_nothing_fits_the_smallest_need_is_named() -> None:
    with pytest.raises(BudgetError, match=r"smollm2-135m, needs 28\d MB and 100 MB are usable"):
        best_recipe(RECIPES, _device(10**8))


def test_a_context_leaves_out_the_models_that_cannot_hold_it() -> None:
    assert best_recipe(RECIPES, _device(4 * 10**9), context=16384).name == "deepseek-r1-distill-qwen-1.5b"
    with pytest.raises(ContextLengthError, match="100000 tokens was asked for; the models allow 1 to 32768"):
        best_recipe(RECIPES, _device(10**11), context=100_000)


def _changed(**changes: object) -> Recipe:
    return replace(SMALL, config={**SMALL.config, **changes})


def test_a_recipe_whose_shapes_make_no_sense_is_named() -> None:
    device = load_device("laptop")
    with pytest.raises(RecipeError, match=r"recipe smollm2-135m: \[config\]: hidden_size is 'wide'"):
        plan(_changed(hidden_size="wide"), device)
    with pytest.raises(UnsupportedModelError, match="recipe smollm2-135m: model_type 'bert' is not supported"):
        plan(_changed(model_type="bert"), device)
    with pytest.raises(RecipeError, match=r"recipe smollm2-135m: \[config\] lacks num_attention_heads"):
        plan(replace(SMALL, plan_only="because", config={"model_type": "x", "max_position_embeddings": 8192}), device)


def test_planning_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    device = load_device("laptop")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("planning must not open files")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    assert plan(LARGE, device, candidates=RECIPES).fits
