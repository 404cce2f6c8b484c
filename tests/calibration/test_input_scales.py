"""Scales are the square roots of the root mean squares of the inputs, measured on the float model."""

from __future__ import annotations

import numpy as np
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.calibration.input_scales import _scale, input_scales
from edgekit.errors import CalibrationError, NonFiniteWeightError
from edgekit.models import ModelSpec
from edgekit.streaming.float_model import FloatModel

TEXTS = [[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8]]
QKV = "model.layers.0.attn.qkv_proj"


def inputs(tensors: dict[str, np.ndarray], spec: ModelSpec, nodes: list[str]) -> list[np.ndarray]:
    """The inputs of products of the float model on all texts, (tokens, in)."""
    model = FloatModel(ArrayWeights(tensors), spec, 64, 1)
    fetch = [model.graph.nodes()[f"{name}/FusedMatMul"].input[0] for name in nodes]
    part = model.graph.part((), fetch, {"logits_start": np.zeros(1, np.int64)})
    feeds = [{"input_ids": np.array([ids], np.int64), **model.context(len(ids))} for ids in TEXTS]
    return [np.concatenate(found, 1)[0] for found in zip(*(part(feed) for feed in feeds), strict=True)]


def expected_scale(x: np.ndarray) -> np.ndarray:
    """The definition, without the lower limit for features that are hardly used."""
    logs = np.log2(np.sqrt((x.astype(np.float64) ** 2).sum(0))) / 2
    return 2.0 ** (np.round(8 * (logs - logs.mean())) / 8)


def check(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal, but where a sum in another order rounds to the next eighth of a factor of two."""
    steps = np.abs(8 * np.log2(found / expected))
    assert steps.max() < 1.01
    assert (steps > 0.01).mean() < 0.05


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}),
    ],
)
def test_scales_follow_the_definition(family: str, changes: dict[str, int]) -> None:
    tensors, spec = tiny_weights(family, **changes)
    reports: list[tuple[float, float]] = []
    scales = input_scales(ArrayWeights(tensors), spec, TEXTS, 1, lambda done, total: reports.append((done, total)))
    at, names = "/model/layers.1", ("attn/qkv_proj", "attn/o_proj", "mlp/gate_up_proj", "mlp/down_proj")
    qkv, o, gate_up, down = inputs(tensors, spec, [f"{at}/{name}" for name in names])
    # The query heads of a group multiply the same value head.
    heads = o.reshape(len(o), spec.num_kv_heads, -1, spec.head_dim)
    shared = heads.swapaxes(1, 2).reshape(-1, spec.num_kv_heads * spec.head_dim)
    found = [scales["model.layers.1." + name.replace("/", ".")] for name in names]
    for scale, x in zip(found, (qkv, shared, gate_up, down), strict=True):
        assert (scale.shape, scale.dtype) == ((x.shape[1],), np.float32)
        check(scale, expected_scale(x))
    assert ("lm_head" in scales) is not spec.tied_embeddings
    if not spec.tied_embeddings:
        check(scales["lm_head"], expected_scale(inputs(tensors, spec, ["/lm_head"])[0]))
    assert len(scales) == 4 * spec.num_layers + (not spec.tied_embeddings)
    assert (reports[0][0], reports[-1][0]) == (0, reports[-1][1])
    assert reports == sorted(reports)


def test_a_feature_that_is_16_times_as_large_has_4_times_the_scale() -> None:
    found = []
    for factor in (1.0, 16.0):
        tensors, spec = tiny_weights("qwen2")
        tensors["model.layers.0.input_layernorm.weight"][7] *= factor
        found.append(input_scales(ArrayWeights(tensors), spec, TEXTS, 1)[QKV])
    others = np.delete(found[1] / found[0], 7)
    assert found[1][7] / found[0][7] / np.median(others) == pytest.approx(4, rel=0.2)


def test_a_feature_that_is_never_used_keeps_a_positive_scale() -> None:
    tensors, spec = tiny_weights("llama")
    tensors["model.layers.0.input_layernorm.weight"][:] = 0
    tensors["model.layers.1.post_attention_layernorm.weight"][5] = 0
    scales = input_scales(ArrayWeights(tensors), spec, TEXTS, 1)
    assert (scales[QKV] == 1).all()
    assert all(np.isfinite(s).all() and (s > 0).all() for s in scales.values())
    least = scales["model.layers.1.mlp.gate_up_proj"]
    assert least.argmin() == 5
    assert least[5] > least.max() / 16, "it is limited to 5 % of the median root mean square"


@pytest.mark.parametrize("unused", [0, 49, 51, 99, 100])
def test_features_that_are_never_used_do_not_change_the_others(unused: int) -> None:
    rms = np.r_[np.zeros(unused), np.linspace(1, 2, 100 - unused)]
    scales = _scale(rms)
    assert np.log2(scales).mean() == pytest.approx(0, abs=0.1)
    assert scales.max() / scales.min() < 8


def test_a_weight_that_is_not_finite_is_named() -> None:
    tensors, spec = tiny_weights("qwen2")
    tensors["model.layers.1.self_attn.k_proj.weight"][3, 5] = np.nan
    with pytest.raises(NonFiniteWeightError, match=r"layers.1.self_attn.k_proj.weight holds nan at \[3, 5\]"):
        input_scales(ArrayWeights(tensors), spec, TEXTS, 1)


def test_inputs_that_are_not_finite_name_their_matrix() -> None:
    tensors, spec = tiny_weights("llama")
    for name in ("gate_proj", "up_proj"):
        tensors[f"model.layers.1.mlp.{name}.weight"] *= np.float32(1e25)
    with pytest.raises(CalibrationError, match=r"inputs of model.layers.1.mlp.down_proj are NaN or infinite"):
        input_scales(ArrayWeights(tensors), spec, TEXTS, 1)
