"""Plans of checkpoints: the formats of their codes, and notes about how they were read."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared_models import SharedModels
from tiny_gptq import TinyGptq

import edgekit
from edgekit.build.plan import plannable
from edgekit.errors import UsageError
from edgekit.planning.planner import plan as plan_recipe
from edgekit.recipes import all_recipes, load_recipe
from edgekit.scheme import IMPORTED, QuantizationOverrides, QuantizationScheme


def test_a_recipe_is_planned_as_it_is() -> None:
    for name in ("smollm2-135m", load_recipe("smollm2-135m")):
        assert edgekit.plan(name, "jetson") == plan_recipe("smollm2-135m", "jetson")
    changed = edgekit.plan("r1-1.5b", "jetson", 2048, QuantizationOverrides(bits=8))
    assert changed == plan_recipe("deepseek-r1-distill-qwen-1.5b", "jetson", 2048, QuantizationOverrides(bits=8))


def test_a_folder_is_planned_as_it_would_be_built(models: SharedModels, tmp_path: Path) -> None:
    folder = models.checkpoint()
    planned = edgekit.plan(folder, "cpu")
    built = edgekit.build(str(folder), "cpu", out=tmp_path / "out", gate=False)
    assert planned.memory.weights == pytest.approx(built.plan.memory.weights, rel=0.05)
    assert planned.model == folder.name


def test_the_repository_of_a_recipe_is_said_to_be_one() -> None:
    planned = edgekit.plan("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "jetson")
    assert planned.model == "deepseek-r1-distill-llama-8b"
    assert "source of the recipe" in planned.notes[0]


def test_codes_keep_their_formats(tmp_path: Path) -> None:
    folder = TinyGptq(group_size=64, symmetric=False, stored_format="gptq_v2").write(tmp_path)
    recipe, _ = plannable(folder)
    assert recipe.quantization.method == IMPORTED
    assert recipe.quantization.linear == QuantizationScheme(4, 64, False)
    with pytest.raises(UsageError, match="copied unchanged"):
        plannable(folder, QuantizationOverrides(bits=8))


def test_a_smaller_model_is_planned_as_requested() -> None:
    eight = QuantizationOverrides(8, embedding_bits=8, lm_head_bits=8)
    for make in (edgekit.plan, plan_recipe):
        planned = make("deepseek-r1-distill-qwen-14b", "jetson", quantization=eight, candidates=all_recipes())
        (offer,) = (each for each in planned.offers if each.kind == "model")
        followed = make(offer.model, "jetson", offer.context, eight)
        assert followed.acceptable
        assert followed.memory.peak == offer.total_bytes
