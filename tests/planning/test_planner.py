"""Memory and speed of models on every device; names, files and objects are taken alike."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

import edgekit
from edgekit.devices import DeviceProfile, Sourced, device_names, load_device
from edgekit.devices.profile import Bytes, Memory
from edgekit.devices.registry import device_file
from edgekit.errors import ContextLengthError, UnknownNameError
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.recipes import Recipe, all_recipes, load_recipe
from edgekit.recipes.registry import LIBRARY

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


def test_what_exactly_fills_the_memory_fits() -> None:
    full, halved = (plan(SMALL, _device(10**12), options=PlanOptions(kv_type=each)) for each in ("float16", "int8"))
    exact = plan(SMALL, _device(full.memory.peak))
    assert (exact.fits, exact.kv_type, exact.kv_because) == (True, "float16", "")
    smaller = plan(SMALL, _device(full.memory.peak - 1))
    assert (smaller.fits, smaller.kv_type, smaller.memory.peak) == (True, "int8", halved.memory.peak)
    assert smaller.kv_because == "float16 would need 283 MB, 1 B more than is usable"
    assert smaller.predictor != full.predictor, "a token reads fewer bytes"
    assert plan(SMALL, _device(halved.memory.peak)).fits
    nowhere = plan(SMALL, _device(halved.memory.peak - 1))
    assert (nowhere.fits, nowhere.kv_type) == (False, "int8"), "the plan says the least that is needed"
    assert not plan(SMALL, _device(full.memory.peak - 1), options=PlanOptions(kv_type="float16")).fits


def test_the_default_context_is_the_devices_but_never_above_the_models() -> None:
    device = load_device("laptop")
    assert plan(SMALL, device).context == 4096
    assert plan(replace(SMALL, max_context=1000), device).context == 1000


@pytest.mark.parametrize("context", [0, -5, 8193])
def test_a_context_outside_the_models_range_is_an_error_that_names_both(context: int) -> None:
    with pytest.raises(ContextLengthError, match=rf"{context} tokens was requested; allowed: 1 to 8192"):
        plan(SMALL, load_device("laptop"), context=context)


def test_planning_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    device = load_device("laptop")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("planning must not open files")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    assert plan(LARGE, device, candidates=RECIPES).fits


def test_every_number_is_finite_on_every_device() -> None:
    for name in ("pi", "jetson", "phone", "laptop", "rtx-4090", "jetson-nano-4gb"):
        latency = plan(load_recipe("deepseek-r1-671b"), load_device(name)).latency
        for interval in (latency.ttft_s, latency.decode_tok_s, latency.decode_full_tok_s):
            assert interval is None or math.isfinite(interval.high)


def test_a_power_mode_slows_down() -> None:
    small, jetson = load_recipe("deepseek-r1-distill-qwen-1.5b"), load_device("jetson")
    options = (PlanOptions("webgpu", power_mode=mode) for mode in (None, "15W"))
    full, saving = (plan(small, jetson, options=each).latency for each in options)
    assert full.decode_tok_s is not None
    assert saving.decode_tok_s is not None
    assert saving.decode_tok_s.mid < 0.8 * full.decode_tok_s.mid  # 68 of 102 GB/s, and costs that do not change
    with pytest.raises(UnknownNameError, match=r"no power mode '15 W'; did you mean 15W"):
        plan(small, jetson, options=PlanOptions(power_mode="15 W"))


MODEL, DEVICE = "deepseek-r1-distill-qwen-1.5b", "jetson-orin-nano"


@pytest.mark.parametrize("model", [MODEL, str(LIBRARY.files()[MODEL]), LIBRARY.files()[MODEL], load_recipe(MODEL)])
@pytest.mark.parametrize("device", ["jetson", DEVICE, device_file(DEVICE), load_device(DEVICE)])
def test_names_files_and_objects_give_the_same_plan(model: object, device: object) -> None:
    expected = plan(load_recipe(MODEL), load_device(DEVICE), 2048, options=PlanOptions(prompt_tokens=64))
    found = edgekit.plan(model, device, 2048, options=PlanOptions(prompt_tokens=64))  # type: ignore[arg-type]
    assert found.to_json() == expected.to_json()


def test_candidates_and_devices_can_be_names_too() -> None:
    large = "deepseek-r1-distill-llama-70b"
    found = edgekit.plan(large, "pi", candidates=[MODEL, load_recipe("smollm2-135m")], devices=["jetson-agx-orin-64gb"])
    assert {offer.kind: offer.options for offer in found.offers} == {
        "model": (MODEL,),
        "device": ("--device", "jetson-agx-orin-64gb"),
    }


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="there is no model 'smollm'"):
        edgekit.plan("smollm", "jetson")
    with pytest.raises(UnknownNameError, match="there is no device 'jetsn'"):
        edgekit.plan("smollm2-135m", "jetsn")
    with pytest.raises(ContextLengthError):
        edgekit.plan("smollm2-135m", "jetson", 10**6)


def test_a_candidate_that_does_not_exist_is_an_error_even_if_the_plan_fits() -> None:
    with pytest.raises(UnknownNameError, match="there is no recipe 'smolm2'"):
        edgekit.plan("smollm2-135m", "laptop", candidates=["smolm2"])


def test_quantization_can_be_a_change_to_the_recipes() -> None:
    changed = edgekit.plan(MODEL, DEVICE, quantization=edgekit.QuantizationOverrides(lm_head_bits=4))
    assert changed.quantization.lm_head is not None
    assert changed.quantization.lm_head.bits == 4
    assert changed.quantization.linear == load_recipe(MODEL).quantization.linear
