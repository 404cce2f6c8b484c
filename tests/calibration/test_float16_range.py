"""Activations that float16 cannot hold are found, named and made smaller, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.calibration.float16_range import LARGEST, Widest, described, measure_widest, shrinking
from edgekit.errors import CalibrationError, NonFiniteWeightError
from edgekit.models.spec import ModelSpec
from edgekit.weights.shrunk import ShrunkWeights

IDS = [[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8]]
QUARTER = LARGEST / 4


def model(**changes: Any) -> tuple[dict[str, np.ndarray], ModelSpec]:
    """A tiny model whose activations are small; ``changes``: factors of tensors of layer 1, by a part of the name."""
    tensors, spec = tiny_weights("qwen2")
    for part, factor in changes.items():
        (name,) = [n for n in tensors if f"layers.1.{'self_attn' if part[0] in 'qkvo' else 'mlp'}.{part}.weight" in n]
        tensors[name] = tensors[name] * np.float32(factor)
    return tensors, spec


def widest(tensors: dict[str, np.ndarray], spec: ModelSpec) -> Widest:
    return measure_widest(ArrayWeights(tensors), spec, IDS, 1)


def test_a_model_with_small_activations_stays_as_it_is() -> None:
    tensors, spec = model()
    found = widest(tensors, spec)
    assert 0 < found.residual[0] < QUARTER
    assert not shrinking(found, spec)


@pytest.mark.parametrize(
    ("part", "field"), [("o_proj", "residual"), ("down_proj", "residual"), ("v_proj", "values"), ("up_proj", "up")]
)
def test_what_is_too_large_becomes_small_enough(part: str, field: str) -> None:
    tensors, spec = model(**{part: 1e6})
    found = widest(tensors, spec)
    by = shrinking(found, spec)
    assert by
    if field == "residual":
        assert by.residual < 1
        assert by.values == by.up == (1,) * spec.num_layers
    else:
        assert getattr(by, field)[1] < 1
        assert getattr(by, field)[0] == 1
    after = measure_widest(
        ShrunkWeights(ArrayWeights(tensors), spec, by), replace(spec, residual_scale=by.residual), IDS, 1
    )
    assert not shrinking(after, spec)
    largest = (after.residual[0], *after.values, *after.up)
    assert QUARTER / 2 < max(largest) <= QUARTER  # not smaller than needed
    note = described(found, by)
    assert note is not None
    assert "overflow float16" in note
    assert "layers.1" in note


@pytest.mark.parametrize(
    ("part", "name"), [("gate_proj", "gate of layers.1"), ("q_proj", "queries or keys of layers.1")]
)
def test_what_cannot_become_smaller_is_refused_with_its_name(part: str, name: str) -> None:
    tensors, spec = model(**{part: 1e6})
    with pytest.raises(CalibrationError, match=f"float16 overflows: the {name}.*65504 at most") as caught:
        shrinking(widest(tensors, spec), spec)
    assert "float32" in caught.value.hint


def test_a_value_within_the_margin_is_scaled_too() -> None:
    spec = model()[1]
    calm = Widest((1.0, "embedding"), (1.0,) * spec.num_layers, (1.0,) * spec.num_layers, (1.0, ""))
    for value, factor in ((QUARTER, 1), (QUARTER + 1, 0.5), (LARGEST, 0.25), (4.12e6, 2.0**-8)):
        found = replace(calm, residual=(value, "layers.0"))
        by = shrinking(found, spec)
        assert by.residual == factor
        assert (described(found, by) is None) is (value <= LARGEST)  # where nothing would overflow, nothing is said


def test_values_that_are_not_finite_are_an_error() -> None:
    tensors, spec = model(down_proj=1e30, up_proj=1e30)
    with pytest.raises(CalibrationError, match=r"NaN or infinity in .*layers\.1"):
        widest(tensors, spec)
    tensors, spec = model(down_proj=np.nan)
    with pytest.raises(NonFiniteWeightError, match="down_proj"):
        widest(tensors, spec)


def test_progress_ends() -> None:
    tensors, spec = model()
    seen: list[tuple[float, float]] = []
    measure_widest(ArrayWeights(tensors), spec, IDS, 1, lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1]
