"""Scaled weights compute what they did; the scales are the roots of what the inputs carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.calibration.input_scales import input_scales
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CalibrationError, NonFiniteWeightError
from edgekit.layout import plan_layout
from edgekit.models import spec_from_config
from edgekit.models.spec import ModelSpec
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.streaming.float_model import FloatModel
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.weights.rotated import RotatedWeights
from edgekit.weights.scaled import ScaledWeights
from edgekit.weights.source import WeightSource

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
TEXTS = [IDS, [2, 7, 1, 8, 2, 8]]
MODELS = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
    ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}),
    ("qwen2", {}),
]


def scaled(source: WeightSource, spec: ModelSpec) -> tuple[ScaledWeights, dict[str, np.ndarray]]:
    scales = input_scales(source, spec, TEXTS, 1)
    return ScaledWeights(source, spec, plan_layout(spec, QuantizationConfig.none(), "float32", 1), scales), scales


def logits(source: WeightSource, spec: ModelSpec) -> np.ndarray:
    model = FloatModel(source, spec, 64, 1)
    return model.graph.run([model.feed(IDS)], {"logits_start": np.zeros(1, np.int64)})[0]["logits"]


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize(("family", "changes"), MODELS)
def test_the_function_is_the_same(tmp_path: Path, family: str, changes: dict, rotate: bool) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "plain", family, **changes)) as opened:
        spec = spec_from_config(opened.config)
        source: WeightSource = CheckpointWeights(opened, spec)
        expected = logits(source, spec)
        if rotate:
            source = RotatedWeights(source, spec)
            spec = source.spec
        made, scales = scaled(source, spec)
        assert ("lm_head" in scales) is (not spec.tied_embeddings)
        np.testing.assert_allclose(logits(made, spec), expected, atol=1e-5 * np.abs(expected).max())
        for ref in spec.tensors():  # however it is read
            whole = made.rows(ref, 0, ref.shape[0])
            np.testing.assert_allclose(made.rows(ref, 5, 42), whole[5:42], atol=1e-5, err_msg=ref.name)


def test_scales_are_the_roots_of_what_the_inputs_carry(tmp_path: Path) -> None:
    """A feature whose norm is 16 times as large carries 16 times as much, and its column counts four times."""
    config = tiny_config("qwen2")
    tensors = random_tensors(config)
    found = []
    for factor in (1.0, 16.0):
        tensors["model.layers.1.input_layernorm.weight"][7] *= factor
        with open_checkpoint(write_checkpoint(tmp_path / str(factor), "qwen2", tensors)) as opened:
            spec = spec_from_config(opened.config)
            source = CheckpointWeights(opened, spec)
            made, scales = scaled(source, spec)
            found.append(scales["model.layers.1.attn.qkv_proj"])
            for scale in scales.values():
                np.testing.assert_allclose(8 * np.log2(scale), np.round(8 * np.log2(scale)), atol=1e-4)
            layer = spec.layers[1]
            columns = made.rows(layer.q_proj.weight, 0, 9) / source.rows(layer.q_proj.weight, 0, 9)
            np.testing.assert_allclose(columns, np.broadcast_to(found[-1], columns.shape), rtol=1e-5)
            norms = source.rows(layer.input_norm, 0, 144) / made.rows(layer.input_norm, 0, 144)
            np.testing.assert_allclose(norms, found[-1], rtol=1e-5)
    others = np.delete(found[1] / found[0], 7)
    assert found[1][7] / found[0][7] / np.median(others) == pytest.approx(4, rel=0.2)


def test_a_feature_that_is_never_used_is_not_lost(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    tensors["model.layers.0.input_layernorm.weight"][:] = 0
    tensors["model.layers.1.post_attention_layernorm.weight"][5] = 0
    with open_checkpoint(write_checkpoint(tmp_path / "dead", "llama", tensors)) as opened:
        spec = spec_from_config(opened.config)
        made, scales = scaled(CheckpointWeights(opened, spec), spec)
        assert (scales["model.layers.0.attn.qkv_proj"] == 1).all()
        assert all(np.isfinite(s).all() and (s > 0).all() for s in scales.values())
        assert made.packed(spec.layers[0].q_proj.weight, 0, 1, QuantizationScheme()) is None


def test_a_weight_that_is_no_number(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("qwen2"))
    tensors["model.layers.1.self_attn.k_proj.weight"][3, 5] = np.nan
    with open_checkpoint(write_checkpoint(tmp_path / "damaged", "qwen2", tensors)) as opened:
        spec = spec_from_config(opened.config)
        with pytest.raises(NonFiniteWeightError, match=r"layers.1.self_attn.k_proj.weight holds nan at \[3, 5\]"):
            input_scales(CheckpointWeights(opened, spec), spec, TEXTS, 1)


def test_inputs_that_are_no_numbers(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    for name in ("gate_proj", "up_proj"):
        tensors[f"model.layers.1.mlp.{name}.weight"] *= np.float32(1e25)
    with open_checkpoint(write_checkpoint(tmp_path / "large", "llama", tensors)) as opened:
        spec = spec_from_config(opened.config)
        with pytest.raises(CalibrationError, match=r"inputs of model.layers.1.mlp.down_proj are NaN or infinite"):
            input_scales(CheckpointWeights(opened, spec), spec, TEXTS, 1)
