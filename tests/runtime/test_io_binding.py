"""Engines on onnxruntime, by the one on the processor: KV cache, chunks and errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from tiny_artifact import HEAD_DIM, KV_HEADS, LAYERS, write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import ContextLengthError, EngineError, TokenRangeError
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.ort_engine import PREFILL_CHUNK, OrtEngine

# float32 sums in a different order (other chunk lengths): measured 1e-5 on logits up to 30.
TOLERANCE = 1e-4
IDS = np.random.default_rng(0).integers(4, 250, PREFILL_CHUNK * 2 + 37)


def open_tiny(folder: Path, context: int | None = None, all_logits: bool = False) -> OrtEngine:
    options = EngineOptions(context=context, threads=1, all_logits=all_logits)
    return OrtEngine.open(folder, read_manifest(folder), options)


def plain_logits(folder: Path, ids: Sequence[int]) -> NDArray[np.float32]:
    """The reference: plain onnxruntime, one token at a time, with a growing cache that is copied."""
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [f"{i}.{part}" for i in range(LAYERS) for part in ("key", "value")]
    cache = {name: np.zeros((1, KV_HEADS, 0, HEAD_DIM), np.float32) for name in names}
    rows = []
    for n, token in enumerate(ids):
        feed = {f"past_key_values.{name}": array for name, array in cache.items()}
        feed |= {"input_ids": np.array([[token]]), "attention_mask": np.ones((1, n + 1), np.int64)}
        logits, *present = session.run(["logits", *(f"present.{name}" for name in names)], feed)
        cache = dict(zip(names, present, strict=True))
        rows.append(logits[0, -1])
    return np.stack(rows)


def test_the_shared_cache_and_chunks_do_not_change_the_result(artifact: Path) -> None:
    expected = plain_logits(artifact, IDS)
    every = open_tiny(artifact, all_logits=True)
    np.testing.assert_allclose(every.evaluate(IDS), expected, atol=TOLERANCE)
    last = open_tiny(artifact)
    np.testing.assert_allclose(last.evaluate(IDS), expected[-1:], atol=TOLERANCE)
    last.rewind(0)
    for start, stop in ((0, 1), (1, 300), (300, 301), (301, IDS.size)):
        row = last.evaluate(IDS[start:stop])
        np.testing.assert_allclose(row, expected[stop - 1 : stop], atol=TOLERANCE)
    assert last.position == IDS.size


def test_a_rewound_sequence_forgets_later_tokens(artifact: Path) -> None:
    engine = open_tiny(artifact)
    engine.evaluate(IDS[:20])
    engine.evaluate(IDS[40:70])
    engine.rewind(20)
    assert engine.position == 20
    np.testing.assert_allclose(engine.evaluate(IDS[20:30])[-1], plain_logits(artifact, IDS[:30])[-1], atol=TOLERANCE)


def test_logits_belong_to_the_caller(artifact: Path) -> None:
    engine = open_tiny(artifact)
    first = engine.evaluate([5])
    kept = first.copy()
    engine.evaluate([6])
    np.testing.assert_array_equal(first, kept)


def test_the_context_can_be_filled_but_not_exceeded(artifact: Path) -> None:
    engine = open_tiny(artifact, context=8)
    engine.evaluate(IDS[:7])
    with pytest.raises(ContextLengthError, match="9; the context holds 8"):
        engine.evaluate(IDS[7:9])
    assert engine.position == 7
    row = engine.evaluate(IDS[7:8])
    np.testing.assert_allclose(row[-1], plain_logits(artifact, IDS[:8])[-1], atol=TOLERANCE)
    with pytest.raises(ContextLengthError):
        engine.evaluate([1])


def test_an_id_outside_the_vocabulary_does_not_change_the_cache(artifact: Path) -> None:
    engine = open_tiny(artifact)
    engine.evaluate(IDS[:5])
    with pytest.raises(TokenRangeError, match=str(engine.vocab_size)):
        engine.evaluate([5, engine.vocab_size])
    assert engine.position == 5


def test_float16_artifacts_also_run_on_the_cpu(tmp_path: Path, artifact: Path) -> None:
    half = open_tiny(write_tiny_artifact(tmp_path / "half", float16=True))
    row = half.evaluate(IDS[:30])[-1]
    # 11 bits of mantissa over two layers, on logits up to 30
    np.testing.assert_allclose(row, plain_logits(artifact, IDS[:30])[-1], atol=0.25)


def test_too_many_threads_are_refused_before_any_starts(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *arguments, **settings: pytest.fail("a session started"))
    for threads in (1025, 10000):
        with pytest.raises(EngineError, match=f"{threads} threads were requested; allowed: 1 to 1024"):
            OrtEngine.open(artifact, read_manifest(artifact), EngineOptions(threads=threads))


def test_a_damaged_graph_is_an_error_in_one_line(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "damaged")
    (folder / "model.onnx").write_bytes(b"no protobuf")
    with pytest.raises(EngineError, match="cannot load") as caught:
        open_tiny(folder)
    assert "\n" not in caught.value.message
    (folder / "model.onnx").unlink()
    with pytest.raises(EngineError, match=r"has no model\.onnx"):
        open_tiny(folder)


def test_a_truncated_weight_file_is_an_error(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "truncated")
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(EngineError, match="cannot load"):
        open_tiny(folder)


def test_a_missing_onnxruntime_is_an_error(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="onnxruntime cannot be imported"):
        open_tiny(artifact)
