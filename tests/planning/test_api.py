"""edgekit.plan takes names, files and objects alike."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit
from edgekit.devices import load_device
from edgekit.devices.registry import device_file
from edgekit.errors import ContextLengthError, UnknownNameError
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan_recipe
from edgekit.recipes import load_recipe
from edgekit.recipes.registry import LIBRARY

MODEL, DEVICE = "deepseek-r1-distill-qwen-1.5b", "jetson-orin-nano"


@pytest.mark.parametrize("model", [MODEL, str(LIBRARY.files()[MODEL]), LIBRARY.files()[MODEL], load_recipe(MODEL)])
@pytest.mark.parametrize("device", ["jetson", DEVICE, device_file(DEVICE), load_device(DEVICE)])
def test_names_files_and_objects_give_the_same_plan(model: object, device: object) -> None:
    expected = plan_recipe(load_recipe(MODEL), load_device(DEVICE), 2048, options=PlanOptions(prompt_tokens=64))
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
    with pytest.raises(UnknownNameError, match="there is no recipe 'smollm'"):
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
