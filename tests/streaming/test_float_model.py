"""The streamed float model: its weights are the source's, and its logits those of the exported float graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.export.decoder import ALL_POSITIONS, LOGITS_START
from edgekit.export.model import MODEL_FILE, export_model
from edgekit.models import ModelSpec
from edgekit.scheme import QuantizationConfig
from edgekit.streaming import graph as streaming
from edgekit.streaming.float_model import EMBEDDED, FloatModel, empty_cache

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
ROUNDING = 1e-5  # of float32 sums in another order, relative to the largest logit
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("llama", {}),
    "biases": ("llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
}


def whole_graph(folder: Path, ids: list[int], spec: ModelSpec) -> np.ndarray:
    """The logits of every position from the exported float graph in one session."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # the graph declares one position
    start = ort.OrtValue.ortvalue_from_numpy(np.zeros(1, np.int64))
    options.add_initializer(LOGITS_START, start)
    session = ort.InferenceSession(folder / MODEL_FILE, options)
    past = {
        f"past_key_values.{i}.{kind}": np.zeros((1, 1, 0, spec.head_dim), np.float32)
        for i in range(spec.num_layers)
        for kind in ("key", "value")
    }
    feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64), **past}
    return session.run(["logits"], feeds)[0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("piece_rows", [4096, 70])
def test_logits_are_those_of_the_exported_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, piece_rows: int
) -> None:
    """Also if every product is cut into pieces that end within a part of its matrix."""
    monkeypatch.setattr(streaming, "PIECE_ROWS", piece_rows)
    family, changes = MODELS[name]
    tensors, spec = tiny_weights(family, **changes)
    source = ArrayWeights(tensors)
    none = QuantizationConfig.none()
    export_model(tmp_path, spec, source, none, activation_type="float32", max_context=64, threads=1)
    model = FloatModel(source, spec, 64, 1)
    (found,) = model.graph.run([model.feed(IDS)], ALL_POSITIONS)
    expected = whole_graph(tmp_path, IDS, spec)
    np.testing.assert_allclose(found["logits"], expected, atol=ROUNDING * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_weights_are_float32_whatever_the_checkpoint_stores(dtype: type) -> None:
    tensors, spec = tiny_weights("qwen2")
    stored = {name: w.astype(dtype) for name, w in tensors.items()}
    model = FloatModel(ArrayWeights(stored), spec, 8, 1)
    at = "model.layers.1.self_attn"
    for kind in ("weight", "bias"):
        expected = np.concatenate([stored[f"{at}.{p}_proj.{kind}"] for p in "qkv"]).astype(np.float32)
        found = model.weight(f"model.layers.1.attn.qkv_proj.{kind}")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(model.weight("model.final_norm.weight"), stored["model.norm.weight"].astype("f4"))
    np.testing.assert_array_equal(model.weight("lm_head.weight"), stored["lm_head.weight"].astype("f4"))


def test_rotary_tables_are_computed() -> None:
    tensors, spec = tiny_weights("llama")
    model = FloatModel(ArrayWeights(tensors), spec, 8, 1)
    angles = np.arange(8)[:, None] * np.array(spec.rope.inverse_frequencies())
    np.testing.assert_array_equal(model.weight("rotary.cos"), np.cos(angles).astype(np.float32))
    np.testing.assert_array_equal(model.weight("rotary.sin"), np.sin(angles).astype(np.float32))


def test_an_embedding_reads_each_row_once() -> None:
    tensors, spec = tiny_weights("llama")
    source = ArrayWeights(tensors)
    model = FloatModel(source, spec, 64, 1)
    source.reads.clear()
    found = model.embed(IDS)
    np.testing.assert_array_equal(found[0], tensors["model.embed_tokens.weight"][IDS])
    assert found.shape == (1, len(IDS), spec.hidden_size)
    assert sorted(start for _, start, _ in source.reads) == sorted(set(IDS))


def test_inputs_of_a_text() -> None:
    tensors, spec = tiny_weights("llama", num_attention_heads=4, num_key_value_heads=2)
    model = FloatModel(ArrayWeights(tensors), spec, 64, 1)
    feed = model.feed(IDS)
    np.testing.assert_array_equal(feed[EMBEDDED], model.embed(IDS))
    assert feed["attention_mask"].tolist() == [[1] * len(IDS)]
    cache = empty_cache(spec, "float16")
    assert set(feed) == {EMBEDDED, "attention_mask", *cache}
    assert {(values.shape, values.dtype) for values in cache.values()} == {((1, 2, 0, 48), np.dtype(np.float16))}
