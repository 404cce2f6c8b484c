"""Scaled weights compute the same function, whatever the scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.layout import plan_layout
from edgekit.models.spec import ModelSpec
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.streaming.float_model import FloatModel
from edgekit.weights.rotated import RotatedWeights
from edgekit.weights.scaled import ScaledWeights
from edgekit.weights.source import WeightSource

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
ROUNDING = 1e-5  # of float32 products, relative to the largest logit
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
    ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}),
    ("qwen2", {}),
    ("qwen3", {}),
]


def random_scales(spec: ModelSpec, *, lm_head: bool) -> dict[str, np.ndarray]:
    """Scales from 1/4 to 4 of each matrix."""
    rng = np.random.default_rng(5)
    widths: dict[str, int] = {"lm_head": spec.hidden_size} if lm_head else {}
    for i in range(spec.num_layers):
        at = f"model.layers.{i}"
        widths |= {f"{at}.attn.qkv_proj": spec.hidden_size, f"{at}.attn.o_proj": spec.kv_width}
        widths |= {f"{at}.mlp.gate_up_proj": spec.hidden_size, f"{at}.mlp.down_proj": spec.intermediate_size}
    return {name: np.exp2(rng.uniform(-2, 2, width)).astype(np.float32) for name, width in widths.items()}


def scaled(source: WeightSource, spec: ModelSpec, scales: dict[str, np.ndarray]) -> ScaledWeights:
    return ScaledWeights(source, spec, plan_layout(spec, QuantizationConfig.none(), "float32", 1), scales)


def logits(source: WeightSource, spec: ModelSpec) -> np.ndarray:
    model = FloatModel(source, spec, 64, 1)
    return model.graph.run([model.feed(IDS)], {"logits_start": np.zeros(1, np.int64)})[0]["logits"]


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize(("family", "changes"), MODELS)
def test_the_function_is_the_same(family: str, changes: dict[str, Any], rotate: bool) -> None:
    tensors, spec = tiny_weights(family, **changes)
    source: WeightSource = ArrayWeights(tensors)
    expected = logits(source, spec)
    if rotate:
        source = RotatedWeights(source, spec)
        spec = source.spec
    made = scaled(source, spec, random_scales(spec, lm_head=not spec.tied_embeddings))
    np.testing.assert_allclose(logits(made, spec), expected, atol=ROUNDING * np.abs(expected).max())
    for ref in spec.tensors():  # parts are rows of the whole
        whole = made.rows(ref, 0, ref.shape[0])
        np.testing.assert_allclose(made.rows(ref, 5, 42), whole[5:42], atol=1e-5, err_msg=ref.name)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_columns_are_multiplied_and_the_source_of_the_inputs_divided(dtype: type) -> None:
    tensors, spec = tiny_weights("qwen2", num_attention_heads=4, num_key_value_heads=2, head_dim=32)
    stored = {name: w.astype(dtype) for name, w in tensors.items()}
    scales = random_scales(spec, lm_head=True)
    made = scaled(ArrayWeights(stored), spec, scales)
    layer, at = spec.layers[1], "model.layers.1"
    values = scales[f"{at}.attn.o_proj"]
    per_query_head = np.repeat(values.reshape(2, 1, 32), 2, axis=1).reshape(-1)
    down = scales[f"{at}.mlp.down_proj"]
    qkv, gate_up = scales[f"{at}.attn.qkv_proj"], scales[f"{at}.mlp.gate_up_proj"]
    assert layer.v_proj.bias is not None
    expected = {
        layer.input_norm: 1 / qkv,
        layer.q_proj.weight: qkv,
        layer.k_proj.weight: qkv,
        layer.v_proj.weight: qkv / values[:, None],
        layer.v_proj.bias: 1 / values,
        layer.o_proj.weight: per_query_head,
        layer.post_attention_norm: 1 / gate_up,
        layer.gate_proj.weight: gate_up,
        layer.up_proj.weight: gate_up / down[:, None],
        layer.down_proj.weight: down,
        spec.final_norm: 1 / scales["lm_head"],
        spec.lm_head.weight: scales["lm_head"],
    }
    for ref, factor in expected.items():
        found = made.rows(ref, 0, ref.shape[0])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, stored[ref.name].astype(np.float32) * factor, rtol=1e-6, err_msg=ref.name)
    for ref in (spec.embedding, layer.q_proj.bias, layer.k_proj.bias):
        assert ref is not None
        found = made.rows(ref, 0, ref.shape[0])
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, stored[ref.name])


def test_a_tied_head_is_not_scaled() -> None:
    tensors, spec = tiny_weights("llama")
    made = scaled(ArrayWeights(tensors), spec, random_scales(spec, lm_head=False))
    for ref in (spec.embedding, spec.final_norm):
        np.testing.assert_array_equal(made.rows(ref, 0, ref.shape[0]), tensors[ref.name])


class Carried(ArrayWeights):
    """A source with codes, which records whether its cache was released."""

    released = False

    def packed(self, *_: object) -> None:
        raise AssertionError("codes of the source do not describe scaled weights")

    def release(self) -> None:
        self.released = True


def test_codes_and_caches_of_the_source() -> None:
    tensors, spec = tiny_weights("llama")
    source = Carried(tensors)
    made = scaled(source, spec, random_scales(spec, lm_head=False))
    assert made.packed(spec.layers[0].q_proj.weight, 0, 1, QuantizationScheme()) is None
    made.release()
    assert source.released
