"""Alternatives: each is planned like the request, and acceptable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import DeviceProfile, Sourced, load_device
from edgekit.devices.profile import Bytes, Memory
from edgekit.devices.registry import all_devices
from edgekit.errors import BudgetError
from edgekit.planning.budget import UserLimits
from edgekit.planning.choice import check_budget
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.recipes import all_recipes, load_recipe
from edgekit.scheme import QuantizationConfig, QuantizationOverrides, QuantizationScheme

RECIPES = all_recipes()


SMALL, MIDDLE, LARGE = (load_recipe(f"{name}") for name in (
    "smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b"
))  # fmt: skip


PI = load_device("pi")
INT8 = PlanOptions(kv_type="int8")


def _device(usable_bytes: int, name: str = "laptop") -> DeviceProfile:
    """The laptop with another amount of memory."""
    size = Sourced(Bytes(usable_bytes), "made up")
    return replace(load_device(name), memory=Memory(total=size, usable=size))


@pytest.mark.parametrize("fitting", [300, 2000, 4096, 7935, 8190])
def test_a_shorter_context_is_offered_and_is_the_longest_that_fits(fitting: int) -> None:
    device = _device(plan(LARGE, _device(10**12), context=fitting, options=INT8).memory.total)
    offer = next(o for o in plan(LARGE, device, context=8192).offers if o.kind == "context")
    assert offer.context == fitting // 256 * 256
    assert offer.options == ("--context", str(offer.context))
    assert plan(LARGE, device, context=offer.context).memory.total == offer.total_bytes <= device.usable_bytes
    assert not plan(LARGE, device, context=offer.context + 256).fits
    assert "8192" in offer.sentence
    assert offer.sentence.endswith(" with a KV cache in int8") is (offer.context > 256), "float16 is enough for 256"


def test_fewer_bits_are_offered_at_the_same_context_when_that_is_enough() -> None:
    device = _device(plan(LARGE, _device(10**12), options=INT8).memory.total - 1)
    offer = next(o for o in plan(LARGE, device).offers if o.kind == "bits")
    assert offer.options == ("--lm-head-bits", "4", "--block-size", "128")
    chosen = QuantizationOverrides(lm_head_bits=4, block_size=128).applied_to(LARGE.quantization)
    assert plan(LARGE, device, quantization=chosen).memory.total == offer.total_bytes


def test_codes_of_a_checkpoint_cannot_get_fewer_bits() -> None:
    imported = replace(LARGE, quantization=replace(LARGE.quantization, method="imported"))
    assert "bits" not in {o.kind for o in plan(imported, _device(5 * 10**9)).offers}


def test_fewer_bits_and_a_shorter_context_are_offered_together_when_it_takes_both() -> None:
    chosen = QuantizationOverrides(lm_head_bits=4, block_size=128).applied_to(LARGE.quantization)
    device = _device(plan(LARGE, _device(10**12), context=1024, quantization=chosen, options=INT8).memory.total)
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
    chosen = QuantizationOverrides(bits=4, embedding_bits=4, lm_head_bits=4, block_size=128)
    assert offer.options == (*("--bits", "4", "--embedding-bits", "4", "--lm-head-bits", "4"), *("--block-size", "128"))
    assert plan(MIDDLE, _device(2 * 10**9), quantization=chosen.applied_to(floats)).memory.total == offer.total_bytes


def test_the_largest_smaller_model_that_fits_is_offered() -> None:
    device = _device(2 * 10**9)
    offer = next(o for o in plan(LARGE, device, candidates=RECIPES).offers if o.kind == "model")
    assert offer.model == "deepseek-r1-distill-qwen-1.5b"
    assert offer.options == ("deepseek-r1-distill-qwen-1.5b",)
    longer = next(o for o in plan(LARGE, device, context=5000, candidates=RECIPES).offers if o.kind == "model")
    assert longer.options == ("deepseek-r1-distill-qwen-1.5b", "--context", "5000")


def test_plan_only_models_are_never_offered() -> None:
    huge = load_recipe("deepseek-r1-671b")
    offers = plan(huge, load_device("jetson-agx-orin-64gb"), candidates=RECIPES).offers
    assert [offer.model for offer in offers] == ["deepseek-r1-distill-llama-70b"]


def test_nothing_fits_a_tiny_device() -> None:
    assert plan(SMALL, _device(10**8), candidates=RECIPES).offers == ()


def test_the_users_limit_brings_offers_that_keep_it() -> None:
    options = PlanOptions(limits=UserLimits(decode_tok_s=9))
    asked = plan(LARGE, PI, candidates=RECIPES, devices=[load_device("rtx-3060")], options=options)
    assert asked.fits
    assert not asked.acceptable
    offers = {offer.kind: offer for offer in asked.offers}
    assert offers["model"].model == MIDDLE.name
    assert offers["device"].options == ("--device", "rtx-3060")
    with pytest.raises(
        BudgetError, match=r"does not meet the budget: 2\.\d+ tok/s .* 9 requested: 3\.\d times too slow"
    ):
        check_budget(asked)


def test_int8_keys_and_values_are_offered_where_they_are_enough() -> None:
    full, halved = (plan(LARGE, PI, 4096, options=PlanOptions(kv_type=kind)) for kind in ("float16", "int8"))
    between = UserLimits(memory_bytes=(full.memory.peak + halved.memory.peak) // 2)
    asked = plan(LARGE, PI, 4096, options=PlanOptions(kv_type="float16", limits=between))
    assert (asked.fits, asked.kv_type, asked.kv_because) == (False, "float16", "")
    offers = {o.kind: o for o in asked.offers}
    assert offers["kv"].options == ("--kv-type", "int8")
    assert offers["kv"].total_bytes == halved.memory.peak
    assert plan(LARGE, PI, 4096, options=PlanOptions(limits=between)).kv_type == "int8", (
        "without a request, it is taken"
    )


def test_int8_keys_and_values_are_offered_where_they_are_fast_enough() -> None:
    full, halved = (plan(LARGE, PI, 8192, options=PlanOptions(kv_type=kind)) for kind in ("float16", "int8"))
    slow, fast = (each.latency.decode_full_tok_s for each in (full, halved))
    assert slow is not None
    assert fast is not None
    limits = UserLimits(decode_tok_s=(slow.mid + fast.mid) / 2)
    asked = plan(LARGE, PI, 8192, options=PlanOptions(limits=limits))
    assert (asked.fits, asked.acceptable, asked.kv_type) == (True, False, "float16")
    assert "kv" in {offer.kind for offer in asked.offers}


def test_a_kv_cache_of_the_graphs_type_has_no_smaller_one() -> None:
    planned = plan(LARGE, PI, options=PlanOptions("ort", limits=UserLimits(memory_bytes=10**9)))
    assert not planned.fits
    assert "kv" not in {offer.kind for offer in planned.offers}


def test_offers_come_from_the_smallest_change_to_the_largest() -> None:
    device = _device(plan(LARGE, _device(10**12), 8192).memory.total - 10**8)
    half = PlanOptions(kv_type="float16")
    asked = plan(LARGE, device, 8192, candidates=RECIPES, devices=[load_device("rtx-3060")], options=half)
    kinds = [offer.kind for offer in asked.offers]
    assert kinds == ["context", "kv", "bits", "model", "device"]
    for offer in asked.offers:
        assert offer.sentence
        assert offer.options


def test_a_model_that_fits_without_the_desktop_is_offered_that() -> None:
    jetson, larger = load_device("jetson"), load_recipe("deepseek-r1-distill-llama-8b")
    offer = next(o for o in plan(larger, jetson, 8192).offers if o.kind == "headless")
    assert offer.options == ("--headless",)
    assert "without a desktop, 1.90 GB more are usable" in offer.sentence
    planned = plan(larger, jetson, 8192, options=PlanOptions(headless=True))
    assert planned.fits
    assert (planned.memory.total, planned.context) == (offer.total_bytes, offer.context)


@pytest.mark.parametrize("options", [PlanOptions(), PlanOptions(headless=True)])
def test_the_desktop_is_not_offered_where_it_changes_nothing(options: PlanOptions) -> None:
    huge = next(recipe for recipe in RECIPES if "671b" in recipe.name)
    planned = plan(huge, load_device("jetson"), options=options, devices=[load_device("laptop")])
    assert "headless" not in {offer.kind for offer in planned.offers}
    assert "headless" not in {offer.kind for offer in plan(LARGE, _device(10**9), candidates=RECIPES).offers}


def test_another_device_is_planned_as_it_is_delivered() -> None:
    asked = PlanOptions(headless=True)
    offers = plan(load_recipe("deepseek-r1-distill-qwen-14b"), load_device("jetson"), options=asked,
                  devices=[load_device("jetson-orin-nx-16gb")]).offers  # fmt: skip
    assert "device" in {offer.kind for offer in offers}


def test_the_engine_that_fits_is_offered_where_another_one_was_requested() -> None:
    jetson, recipe = load_device("jetson"), load_recipe("deepseek-r1-distill-qwen-7b")
    asked = plan(recipe, jetson, devices=all_devices(), options=PlanOptions("webgpu"))
    offers = {offer.kind: offer for offer in asked.offers}
    assert next(iter(offers)) == "engine"
    assert offers["engine"].options == ("--engine", "native")
    assert plan(recipe, jetson, options=PlanOptions("native")).memory.peak == offers["engine"].total_bytes
    there = load_device(offers["device"].options[1])
    assert plan(recipe, there, options=PlanOptions("webgpu")).fits, "the requested engine runs there, too"
    assert "engine" not in {offer.kind for offer in plan(recipe, jetson, context=16384).offers}
