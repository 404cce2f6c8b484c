"""The engines as a set: how they are found and chosen, and the checks that all of them share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_artifact import CONTEXT_LENGTH

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import (
    AcceleratorError,
    ContextLengthError,
    EngineError,
    EngineFallbackWarning,
    TokenRangeError,
    UnknownNameError,
)
from edgekit.runtime import cuda_engine, webgpu_engine
from edgekit.runtime.engine import (
    DEFAULT_CONTEXT,
    EngineOptions,
    ResumableEngine,
    check_ids,
    check_rewind,
    choose_engine,
    engines,
    open_engine,
    resolve_context,
)


def test_engines_are_found_by_their_files_names() -> None:
    folder = Path(__file__).parents[2] / "edgekit" / "runtime"
    assert set(engines()) == {path.stem.removesuffix("_engine") for path in folder.glob("*_engine.py")}
    assert "ort" in engines()


@pytest.mark.parametrize("name", ["auto", "native", "ort"])
def test_every_engine_opens_an_artifact_and_follows_the_protocol(built_artifact: Path, name: str) -> None:
    engine = open_engine(built_artifact, read_manifest(built_artifact), EngineOptions(context=64, threads=1), name)
    assert engine.name in engines()
    assert engine.kernel
    assert (engine.threads, engine.context, engine.position) == (1, 64, 0)
    item = 2 if engine.name == "native" else 4  # float16, or the graph's float32
    assert engine.cache_bytes == 2 * 2 * 1 * 64 * 48 * item  # layers, key and value, heads, context, head size
    logits = engine.evaluate([5, 6, 7])
    assert logits.shape == (1, engine.vocab_size)
    assert logits.dtype == np.float32
    assert engine.position == 3
    engine.close()
    engine.close()
    calls = [lambda: engine.evaluate([1]), lambda: engine.rewind(0)]
    if isinstance(engine, ResumableEngine):
        calls += [engine.tokens, lambda: engine.save(built_artifact / "state")]
    for call in calls:
        with pytest.raises(EngineError, match="the engine is closed"):
            call()


def test_the_error_for_an_unknown_engine_suggests_known_ones(artifact: Path) -> None:
    with pytest.raises(UnknownNameError, match="'orte'") as caught:
        open_engine(artifact, read_manifest(artifact), EngineOptions(), "orte")
    assert "ort" in caught.value.hint


@pytest.mark.parametrize("field", ["context", "threads"])
def test_options_below_one_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is 0"):
        EngineOptions(**{field: 0})


def test_the_context_is_the_requested_otherwise_the_planned_otherwise_the_default(artifact: Path) -> None:
    manifest = replace(read_manifest(artifact), model={"context_length": 10_000, "vocab_size": 8})
    assert resolve_context(manifest, None) == DEFAULT_CONTEXT
    assert resolve_context(replace(manifest, plan={"context": 2048}), None) == 2048
    assert resolve_context(replace(manifest, plan={"context": 20_000}), None) == 10_000
    assert resolve_context(replace(manifest, plan={"context": 2048}), 10_000) == 10_000
    with pytest.raises(ContextLengthError, match=r"10001 .* 10000"):
        resolve_context(manifest, 10_001)


QUANTIZED = {part: {"bits": 4, "block_size": 32, "symmetric": True} for part in ("linear", "embedding", "lm_head")}


@pytest.mark.parametrize(
    ("quantization", "activation_type", "cuda", "expected"),
    [
        (QUANTIZED, "float32", False, "native"),
        (QUANTIZED, "float32", True, "native"),
        (QUANTIZED, "float16", False, "native"),
        (QUANTIZED, "float16", True, "cuda"),
        ({}, "float32", False, "ort"),
        ({**QUANTIZED, "lm_head": None}, "float32", False, "ort"),
        ({**QUANTIZED, "embedding": None}, "float16", False, "ort"),
        ({**QUANTIZED, "embedding": None}, "float16", True, "cuda"),
    ],
)
def test_auto_takes_the_preferred_engine(
    artifact: Path,
    monkeypatch: pytest.MonkeyPatch,
    quantization: dict[str, object],
    activation_type: str,
    cuda: bool,
    expected: str,
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(cuda_engine, "has_cuda_library", lambda: True)
    monkeypatch.setattr(cuda_engine, "has_gpu", lambda: (asked.append(True), cuda)[1])
    manifest = replace(read_manifest(artifact), quantization=quantization, activation_type=activation_type)
    assert choose_engine(manifest) == expected
    assert bool(asked) == (activation_type == "float16")  # asking imports onnxruntime


def test_auto_takes_the_next_engine_if_an_accelerator_fails_and_says_why(
    built_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(ort: object) -> None:
        raise AcceleratorError("the GPU is on fire")

    engine = webgpu_engine.WebgpuEngine
    monkeypatch.setattr(engine, "can_run", lambda manifest: True)
    monkeypatch.setattr(engine, "preference", lambda manifest: 2)
    monkeypatch.setattr(engine, "identify", broken)
    manifest = read_manifest(built_artifact)
    options = EngineOptions(context=64, threads=1)
    assert choose_engine(manifest) == "webgpu"
    with pytest.warns(EngineFallbackWarning, match="webgpu is not used, but native: the GPU is on fire"):
        opened = open_engine(built_artifact, manifest, options)
    assert opened.name == "native"
    opened.close()
    with pytest.raises(AcceleratorError, match="on fire"):
        open_engine(built_artifact, manifest, options, "webgpu")
    monkeypatch.setattr(engine, "preference", lambda manifest: -1)
    assert choose_engine(manifest) == "native"


def test_auto_runs_both_kinds_of_artifact(artifact: Path, built_artifact: Path) -> None:
    for folder, expected in ((artifact, "ort"), (built_artifact, "native")):
        opened = open_engine(folder, read_manifest(folder), EngineOptions(context=64, threads=1))
        assert opened.name == expected
        opened.close()


def test_a_context_beyond_the_model_is_refused_when_opening(artifact: Path) -> None:
    options = EngineOptions(context=CONTEXT_LENGTH + 1)
    with pytest.raises(ContextLengthError, match=rf"{CONTEXT_LENGTH + 1} .* {CONTEXT_LENGTH}"):
        open_engine(artifact, read_manifest(artifact), options)


@pytest.mark.parametrize("bad", [10, 11, -1, 2**40])
def test_ids_outside_the_vocabulary_are_errors(bad: int) -> None:
    with pytest.raises(TokenRangeError, match=rf"id {bad} .* 10 ids"):
        check_ids([3, bad], vocab_size=10, position=0, context=100)


def test_the_error_for_ids_beyond_the_context_names_both_numbers() -> None:
    assert check_ids([1, 2], vocab_size=10, position=6, context=8).tolist() == [1, 2]
    with pytest.raises(ContextLengthError, match=r"3 tokens after 6 make 9; the context holds 8"):
        check_ids([1, 2, 3], vocab_size=10, position=6, context=8)


@pytest.mark.parametrize("ids", [[], [1.5], [[1, 2]]])
def test_invalid_sequences_of_ids_are_refused(ids: list[int]) -> None:
    with pytest.raises(EngineError, match="at least one token id"):
        check_ids(ids, vocab_size=10, position=0, context=8)


def test_rewinding_stays_within_the_sequence() -> None:
    assert [check_rewind(n, 3) for n in (0, 3)] == [0, 3]
    for length in (-1, 4):
        with pytest.raises(EngineError, match=rf"position {length}; the sequence has 3"):
            check_rewind(length, 3)
