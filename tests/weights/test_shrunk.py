"""Smaller activations: exactly the same function, and the same codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.models.spec import ModelSpec, TensorRef
from edgekit.quantize.packing import PackedLinear
from edgekit.quantize.rtn import quantize_rows
from edgekit.scheme import QuantizationScheme
from edgekit.streaming.float_model import FloatModel
from edgekit.weights.shrunk import Shrinking, ShrunkWeights
from edgekit.weights.source import WeightSource

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
SCHEME = QuantizationScheme(4, 32, False)
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"tie_word_embeddings": True}),
    ("llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
    ("qwen2", {}),
    ("qwen3", {}),
]


def factors(spec: ModelSpec) -> Shrinking:
    """Other ones for every layer."""
    each = tuple(2.0 ** -(i % 3) for i in range(spec.num_layers))
    return Shrinking(2.0**-6, each, tuple(2.0**-3 * factor for factor in each))


def hidden_and_logits(source: WeightSource, spec: ModelSpec) -> tuple[list[np.ndarray], np.ndarray]:
    """The residual stream after each layer, and the logits."""
    model = FloatModel(source, spec, 64, 1)
    everything = {"logits_start": np.zeros(1, np.int64)}
    live, found = [model.feed(IDS)], []
    for stage in range(model.graph.num_stages):
        model.graph.run_stage(stage, live, everything)
        if stage + 1 < model.graph.num_stages:
            first, second = model.graph.residual(stage + 1)
            found.append(live[0][first] + (0 if first == second else live[0][second]))
    return found, model.graph.run([model.feed(IDS)], everything)[0]["logits"]


@pytest.mark.parametrize(("family", "changes"), MODELS)
def test_the_function_is_exactly_the_same(family: str, changes: dict[str, Any]) -> None:
    tensors, spec = tiny_weights(family, **changes)
    source, by = ArrayWeights(tensors), factors(spec)
    hidden, expected = hidden_and_logits(source, spec)
    smaller, found = hidden_and_logits(ShrunkWeights(source, spec, by), replace(spec, residual_scale=by.residual))
    np.testing.assert_array_equal(found, expected)
    for x, y in zip(hidden, smaller, strict=True):
        np.testing.assert_array_equal(y, x * np.float32(by.residual))
    _, without_epsilon = hidden_and_logits(ShrunkWeights(source, spec, by), spec)
    assert (without_epsilon != expected).any()


def test_codes_stay_and_scales_become_smaller() -> None:
    tensors, spec = tiny_weights("qwen2")
    source, by, ref = ArrayWeights(tensors), factors(spec), spec.layers[1].down_proj.weight
    before, after = (
        quantize_rows(each.rows(ref, 0, ref.shape[0]), SCHEME, "float32")
        for each in (source, ShrunkWeights(source, spec, by))
    )
    np.testing.assert_array_equal(before.codes, after.codes)
    np.testing.assert_array_equal(before.scales * np.float32(by.residual / by.up[1]), after.scales)


class _Packed(ArrayWeights):
    """Weights that are stored quantized, with float16 scales."""

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        if len(ref.shape) == 1:
            return None
        packed = quantize_rows(self.rows(ref, start, stop), scheme, "float16")
        return replace(packed, scales=packed.scales.astype(np.float16))


def test_codes_of_a_quantized_checkpoint_are_carried_over() -> None:
    tensors, spec = tiny_weights("qwen2")
    source, by = _Packed(tensors), factors(spec)
    shrunk = ShrunkWeights(source, spec, by)
    layer = spec.layers[0]
    for linear, factor in ((layer.o_proj, by.residual / by.values[0]), (layer.gate_proj, 1)):
        ref = linear.weight
        before, after = (each.packed(ref, 3, 9, SCHEME) for each in (source, shrunk))
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(before.codes, after.codes)
        np.testing.assert_array_equal(before.scales.astype(np.float32) * np.float32(factor), after.scales)
    assert shrunk.packed(spec.final_norm, 0, 4, SCHEME) is None


def test_nothing_to_do() -> None:
    assert not Shrinking(1, (1, 1), (1, 1))
    assert Shrinking(1, (1, 0.5), (1, 1))
    assert Shrinking(0.5, (1, 1), (1, 1))
