"""The exported graph: valid ONNX, correct results when quantized, and only the requested logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.export.decoder import LOGITS_START
from edgekit.export.model import export_model
from edgekit.models import ModelSpec, spec_from_config
from edgekit.quantize.rtn import quantize_rows
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.weights.source import WeightSource

# Activations in int8 blocks (accuracy level 4) against float activations, relative to the largest logit.
INT8_ACTIVATION_TOLERANCE = 0.05
# The same products summed in another order.
FLOAT_TOLERANCE = 1e-4

FOUR = QuantizationScheme(4, 32, False)
CONFIGS = {
    "int4": QuantizationConfig(FOUR, FOUR, FOUR),
    "int4 block 128": QuantizationConfig(*[QuantizationScheme(4, 128, True)] * 3),
    "int8 head": QuantizationConfig(FOUR, QuantizationScheme(8, 64, False), QuantizationScheme(8, 64, True)),
    "float embedding": QuantizationConfig(FOUR, None, FOUR),
    "float": QuantizationConfig.none(),
}


def feeds(spec: ModelSpec, ids: np.ndarray, dtype: str = "float32") -> dict[str, np.ndarray]:
    empty = np.zeros((len(ids), spec.num_kv_heads, 0, spec.head_dim), dtype)
    names = [f"past_key_values.{i}.{kind}" for i in range(spec.num_layers) for kind in ("key", "value")]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), **dict.fromkeys(names, empty)}


def logits(folder: Path, spec: ModelSpec, ids: np.ndarray, start: int = -(2**62), dtype: str = "float32") -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # the graph declares one position; asking for all is our doing
    value = ort.OrtValue.ortvalue_from_numpy(np.array([start]))
    options.add_initializer(LOGITS_START, value)
    session = ort.InferenceSession(folder / "model.onnx", options)
    return session.run(["logits"], feeds(spec, ids, dtype))[0]


def prompt(spec: ModelSpec, count: int = 21) -> np.ndarray:
    return np.random.default_rng(5).integers(0, spec.vocab_size, (1, count))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("name", CONFIGS)
def test_checker_accepts_it(export, family: str, name: str) -> None:
    folder, _, _ = export(family, CONFIGS[name])
    onnx.checker.check_model(folder / "model.onnx", full_check=True)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("name", [n for n in CONFIGS if n != "float"])
def test_quantized_graph_is_the_float_graph_of_dequantized_weights(
    export, tmp_path: Path, family: str, name: str
) -> None:
    config = CONFIGS[name]
    folder, spec, _ = export(family, config)
    with open_checkpoint(tmp_path / "checkpoint") as opened:
        reference = tmp_path / "reference"
        reference.mkdir()
        # A tied head has its own format, so the reference keeps it as a tensor of its own.
        untied = spec_from_config({**opened.config, "tie_word_embeddings": False})
        source = _Dequantized(CheckpointWeights(opened, spec), config, spec)
        export_model(reference, untied, source, QuantizationConfig.none(), activation_type="float32", max_context=64,
                     threads=1)  # fmt: skip
    ids = prompt(spec)
    ours, theirs = logits(folder, spec, ids), logits(reference, untied, ids)
    assert np.abs(ours - theirs).max() <= INT8_ACTIVATION_TOLERANCE * np.abs(theirs).max()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999


class _Dequantized(WeightSource):
    """The checkpoint with its weights quantized and dequantized."""

    def __init__(self, source: WeightSource, config: QuantizationConfig, spec: ModelSpec) -> None:
        self._source, self._config, self._spec = source, config, spec

    def rows(self, ref, start: int, stop: int) -> np.ndarray:
        if ref.name == "lm_head.weight":
            scheme, ref = self._config.lm_head, self._spec.lm_head.weight  # the embedding if it is tied
        else:
            scheme = self._config.embedding if ref == self._spec.embedding else self._config.linear
        rows = self._source.rows(ref, start, stop)
        return rows if len(ref.shape) == 1 or scheme is None else quantize_rows(rows, scheme, "float32").dequantize()


@pytest.mark.parametrize("name", ["int4", "float"])
def test_only_asked_for_logits(export, name: str) -> None:
    folder, spec, _ = export("qwen2", CONFIGS[name])
    ids = prompt(spec)
    every, last, some = (logits(folder, spec, ids, start) for start in (-(2**62), -1, 4))
    assert (every.shape[1], last.shape[1], some.shape[1]) == (ids.shape[1], 1, ids.shape[1] - 4)
    scale = FLOAT_TOLERANCE * np.abs(every).max()
    np.testing.assert_allclose(last[0, 0], every[0, -1], atol=scale)
    np.testing.assert_allclose(some[0], every[0, 4:], atol=scale)


def test_float16_agrees_with_float32(export, tmp_path: Path) -> None:
    folder, spec, _ = export("llama", CONFIGS["int4"], "float16")
    with open_checkpoint(tmp_path / "checkpoint") as opened:
        wide = tmp_path / "wide"
        wide.mkdir()
        export_model(wide, spec, CheckpointWeights(opened, spec), CONFIGS["int4"], activation_type="float32",
                     max_context=64, threads=1)  # fmt: skip
    ids = prompt(spec)
    narrow, full = logits(folder, spec, ids, dtype="float16"), logits(wide, spec, ids)
    assert narrow.dtype == np.float32
    assert np.abs(narrow - full).max() <= INT8_ACTIVATION_TOLERANCE * np.abs(full).max()


def test_metadata_holds_every_number(export) -> None:
    folder, spec, layout = export("qwen2", CONFIGS["int8 head"])
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    found = {p.key: p.value for p in model.metadata_props}
    for key in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_layers",
        "num_heads",
        "num_kv_heads",
        "head_dim",
    ):
        assert found[f"edgekit.{key}"] == str(getattr(spec, key))
    assert float(found["edgekit.rms_norm_eps"]) == spec.rms_norm_eps
    assert found["edgekit.context_length"] == str(layout.max_context)
    assert found["edgekit.lm_head.bits"] == "8"
