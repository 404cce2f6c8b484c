"""Widths by loss: budgets are met and used, the largest losses get 8 bits, impossible budgets are errors."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from tiny_checkpoint import tiny_config

from edgekit.devices import load_device
from edgekit.errors import UsageError
from edgekit.layout import DataLayout, plan_layout
from edgekit.models import ModelSpec, spec_from_config
from edgekit.planning.planner import plan
from edgekit.planning.widths import EMBEDDING, LM_HEAD, choose_widths
from edgekit.recipes import load_recipe
from edgekit.scheme import QuantizationConfig, QuantizationScheme

FOUR = QuantizationScheme(4, 64, False)
CONFIG = QuantizationConfig(FOUR, FOUR, FOUR)
SMALL, MIDDLE = load_recipe("smollm2-135m"), load_recipe("deepseek-r1-distill-qwen-1.5b")  # tied; with its own head


def bits(spec: ModelSpec, chosen: QuantizationConfig) -> float:
    return plan_layout(spec, chosen, "float32", 1).weight_bytes * 8 / spec.parameters


def wide(layout: DataLayout) -> set[str]:
    return {m.name for m in (*layout.matrices(), layout.lm_head) if m.scheme is not None and m.scheme.bits == 8}


@pytest.mark.parametrize("mean", [4.8, 5.28, 6.0, 7.4])
@pytest.mark.parametrize("recipe", [SMALL, MIDDLE], ids=lambda recipe: recipe.name)
def test_the_mean_is_kept_and_used(recipe, mean: float) -> None:
    spec = spec_from_config(recipe.config)
    rng = np.random.default_rng(3)
    layout = plan_layout(spec, CONFIG, "float32", 1)
    losses = {m.name: float(rng.lognormal(0, 2)) for m in (*layout.matrices(), layout.lm_head)} | {LM_HEAD: 1.0}
    for known in (losses, None):
        found = choose_widths(spec, replace(CONFIG, mean_bits=mean), "float32", known)
        assert found.mean_bits is None
        assert mean - 0.05 < bits(spec, found) <= mean  # the least matrix is o_proj, 0.1 to 0.3 % of all


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_as_good_as_any_other_choice(family: str) -> None:
    spec = spec_from_config(tiny_config(family))
    rng = np.random.default_rng(1)
    low = plan_layout(spec, CONFIG, "float32", 1)
    names = [m.name for m in low.matrices()]
    least, most = (bits(spec, QuantizationConfig(s, s, s)) for s in (FOUR, replace(FOUR, bits=8)))
    for mean in np.linspace(least, most, 7).tolist():
        losses = {name: float(rng.lognormal(0, 1)) for name in (*names, LM_HEAD)}
        found = choose_widths(spec, replace(CONFIG, mean_bits=mean), "float32", losses)
        shared = low.shares_embedding
        avoided = sum(losses[name] for name in wide(plan_layout(spec, found, "float32", 1)) | _tied(found, shared))
        best = max(
            sum(losses[name] for name in (*some, *([LM_HEAD] if shared and EMBEDDING in some else [])))
            for n in range(len(names) + 1)
            for some in combinations(names, n)
            if bits(spec, _widened(some, shared)) <= mean
        )
        assert avoided >= 0.9 * best  # ten matrices, none of them small: with more of them it comes nearer


def _tied(found: QuantizationConfig, shared: bool) -> set[str]:
    return {LM_HEAD} if shared and found.embedding is not None and found.embedding.bits == 8 else set()


def _widened(names: tuple[str, ...], shared: bool) -> QuantizationConfig:
    eight = replace(FOUR, bits=8)
    embedding = eight if EMBEDDING in names else FOUR
    lm_head = embedding if shared else eight if LM_HEAD in names else FOUR
    inner = {name: eight for name in names if name not in (EMBEDDING, LM_HEAD)}
    return replace(CONFIG, embedding=embedding, lm_head=lm_head, matrices=inner)


def test_what_loses_most_is_widened_first() -> None:
    spec = spec_from_config(MIDDLE.config)
    layout = plan_layout(spec, CONFIG, "float32", 1)
    losses = {m.name: 1e-6 * m.out_features * m.in_features for m in layout.matrices()}
    losses["model.layers.7.mlp.down_proj"] *= 50
    losses[LM_HEAD] = 0.0
    found = choose_widths(spec, replace(CONFIG, mean_bits=4.6), "float32", losses)  # room for 15 million weights
    assert "model.layers.7.mlp.down_proj" in wide(plan_layout(spec, found, "float32", 1))
    losses = dict.fromkeys(losses, 0.0) | {LM_HEAD: float("inf")}
    found = choose_widths(spec, replace(CONFIG, mean_bits=6.0), "float32", losses)
    assert found.lm_head is not None
    assert found.lm_head.bits == 8


def test_gptq_makes_up_for_most_but_not_in_the_embedding() -> None:
    spec = spec_from_config(MIDDLE.config)
    losses = {m.name: 1e-6 * m.out_features * m.in_features for m in plan_layout(spec, CONFIG, "float32", 1).matrices()}
    losses[EMBEDDING] /= 2
    nearest = choose_widths(spec, replace(CONFIG, mean_bits=5.4), "float32", losses)
    calibrated = choose_widths(spec, replace(CONFIG, mean_bits=5.4, method="gptq"), "float32", losses)
    assert nearest.embedding == FOUR
    assert calibrated.embedding == replace(FOUR, bits=8)


@pytest.mark.parametrize(("mean", "words"), [(4.2, "4.57 to 8.62"), (8.9, "4.57 to 8.62"), (-1.0, "4.57 to 8.62")])
def test_a_mean_that_cannot_be_reached(mean: float, words: str) -> None:
    spec = spec_from_config(MIDDLE.config)
    with pytest.raises(UsageError, match=words) as caught:
        choose_widths(spec, replace(CONFIG, mean_bits=mean), "float32")
    assert ("--block-size 128" in caught.value.hint) is (mean < 5)


def test_a_plan_comes_before_the_measurement() -> None:
    asked = replace(MIDDLE, quantization=replace(MIDDLE.quantization, mean_bits=5.0))
    planned = plan(asked, load_device("jetson"))
    assert 4.95 < planned.bits_per_weight <= 5.0
    narrow = plan(MIDDLE, load_device("jetson"), quantization=replace(MIDDLE.quantization, lm_head=FOUR))
    assert narrow.memory.weights < planned.memory.weights
    with pytest.raises(UsageError, match=f"{MIDDLE.name}: a mean of 4 bits"):
        plan(replace(MIDDLE, quantization=replace(MIDDLE.quantization, mean_bits=4.0)), load_device("jetson"))


def test_a_mean_also_quantizes_what_was_in_float() -> None:
    spec = spec_from_config(SMALL.config)
    floats = QuantizationConfig(None, FOUR, FOUR, "gptq", {"model.layers.0.attn.qkv_proj": None}, mean_bits=5.5)
    chosen = choose_widths(spec, floats, "float32")
    assert all(m.scheme is not None for m in plan_layout(spec, chosen, "float32", 1).matrices())
