"""A build's calibration: its texts, the manifest's entry, and when its state is kept, resumed or discarded."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from array_weights import ArrayWeights, tiny_weights
from shared_models import SharedModels

from edgekit.artifact.manifest import RuntimeFacts, read_manifest
from edgekit.calibration import gptq as module
from edgekit.calibration.gptq import Calibration, calibrated_layers
from edgekit.calibration.texts import read_texts, tokens_digest
from edgekit.errors import (
    BudgetError,
    BuildError,
    CalibrationError,
    DiskFullError,
    InterruptedBuildError,
    NonFiniteWeightError,
    UsageError,
)
from edgekit.export.model import LayerQuantizer
from edgekit.layout import Matrix, plan_layout
from edgekit.progress import Progress, no_progress
from edgekit.quantize.packing import PackedLinear
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.scheme import QuantizationConfig, QuantizationScheme

TOKENS = 200
TENSORS, SPEC = tiny_weights("qwen2", max_position_embeddings=700)
FOUR = QuantizationScheme(4, 32, True)
LAYOUT = plan_layout(SPEC, QuantizationConfig(FOUR, FOUR, FOUR), "float32", 256)
MARK = "[[1]]"  # texts of an earlier build
PROSE = "The capital of France is Paris. " * 60

Calibrated = AbstractContextManager[tuple[LayerQuantizer, dict[str, Any]]]
Start = Callable[..., Calibrated]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def artifact(models: SharedModels) -> Path:
    """An artifact of SPEC, for its tokenizer and manifest."""
    return models.artifact("qwen2")


@pytest.fixture
def start(tmp_path: Path, state: Path, artifact: Path) -> Start:
    """``start(...)`` starts a calibration on a file, or on the given settings."""
    (tmp_path / "text.txt").write_text(PROSE)

    def run(
        calibration: Calibration | None = None, facts: RuntimeFacts | None = None, source_key: str = "a",
        files: dict[str, bytes] | None = None, progress: Progress = no_progress,
    ) -> Calibrated:  # fmt: skip
        return calibrated_layers(
            calibration or Calibration(tmp_path / "text.txt", TOKENS), state, artifact,
            facts or read_manifest(artifact), SPEC, ArrayWeights(TENSORS), {"file": source_key}, files or {}, 1,
            progress,
        )  # fmt: skip

    return run


def stop(started: Calibrated, error: BaseException, look: Callable[[], object] = lambda: None) -> None:
    """Fail with an error within a calibration, after a look at its files."""
    with started:
        look()
        raise error


def test_a_file_is_read_and_described(start: Start, artifact: Path, tmp_path: Path, state: Path) -> None:
    tokenizer = Tokenizer.open(artifact, read_manifest(artifact).tokens)
    texts = read_texts(tmp_path / "text.txt", tokenizer, None, TOKENS)
    for compensate, inputs in ((True, "quantized"), (False, "float")):
        with start(Calibration(tmp_path / "text.txt", TOKENS, compensate)) as (_, described):
            assert state.is_dir()
        assert described == {
            "source": "file", "texts": len(texts), "tokens": TOKENS, "tokens_sha256": tokens_digest(texts),
            "inputs": inputs,
        }  # fmt: skip
        assert not state.exists()


def test_a_file_that_cannot_be_used_leaves_no_state(start: Start, tmp_path: Path, state: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"), start(Calibration(tmp_path / "nowhere", TOKENS)):
        pass
    assert not state.exists()


def test_own_answers_are_made_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def own_texts(draft: Path, *_: object) -> list[list[int]]:
        calls.append(draft)
        assert list(draft.iterdir()) == []
        return [[5, 6, 7], [8]]

    monkeypatch.setattr(module, "own_texts", own_texts)
    own = Calibration(None, TOKENS)
    with pytest.raises(InterruptedBuildError):
        stop(start(own), KeyboardInterrupt())
    with start(own) as (_, described):
        pass
    assert (described["source"], described["texts"], described["tokens"]) == ("own answers", 2, 4)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("error", "raised", "kept"),
    [
        (KeyboardInterrupt(), InterruptedBuildError, True),
        (DiskFullError("the disk is full"), DiskFullError, True),
        (BuildError("another failure"), BuildError, True),
        (BudgetError("it does not fit"), BudgetError, True),
        (OSError("of the system"), OSError, True),
        (MemoryError(), MemoryError, True),
        (NonFiniteWeightError("a weight of the embedding"), NonFiniteWeightError, False),
        (RuntimeError("a bug"), RuntimeError, False),
    ],
)
def test_when_the_state_is_kept(
    start: Start, state: Path, error: BaseException, raised: type[Exception], kept: bool
) -> None:
    with pytest.raises(raised):
        stop(start(), error)
    assert state.exists() is kept
    with start():  # it is unlocked
        pass
    assert not state.exists()


@pytest.mark.parametrize("error", [CalibrationError("not finite"), AssertionError("a bug")])
def test_an_error_of_the_calibration_itself_leaves_no_state(
    start: Start, state: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def calibrate(*_: object) -> Iterator[tuple[Matrix, PackedLinear]]:
        assert state.exists()
        yield from ()
        raise error

    monkeypatch.setattr(module, "calibrate", calibrate)
    with pytest.raises(type(error)), start() as (quantize, _):
        list(quantize(LAYOUT))
    assert not state.exists()


@pytest.mark.parametrize("hint", ["", "use --emit gptq_v2"])
def test_what_another_command_may_use_is_told(start: Start, state: Path, hint: str) -> None:
    with pytest.raises(BuildError) as caught:
        stop(start(), BuildError("no zero points of 0", hint))
    assert caught.value.hint.startswith(f"{hint}. The calibration so far" if hint else "the calibration so far")
    assert str(state) in caught.value.hint


@pytest.mark.parametrize("half_scales", [False, True])
def test_what_cannot_be_resumed_without_an_emitted_checkpoint_is_told(
    start: Start, tmp_path: Path, half_scales: bool
) -> None:
    with pytest.raises(BuildError) as caught:
        stop(start(calibration=Calibration(tmp_path / "text.txt", TOKENS, True, half_scales)), BuildError("failed"))
    assert caught.value.hint.endswith("if it emits a GPTQ checkpoint as well") is half_scales


def test_a_full_disk_of_what_uses_the_matrices_is_told(start: Start, state: Path) -> None:
    with pytest.raises(DiskFullError, match=f"no space to write to x.safetensors.*is kept in {state}"):
        stop(start(), OSError(errno.ENOSPC, "No space left", "x.safetensors"))
    assert state.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DiskFullError("the disk is full")])
def test_an_interruption_says_where_the_state_is(start: Start, state: Path, error: BaseException) -> None:
    with pytest.raises((InterruptedBuildError, DiskFullError)) as caught:
        stop(start(), error)
    assert f"is kept in {state}" in caught.value.message
    assert "run the same command again" in caught.value.hint


def test_other_inputs_start_anew(
    start: Start, artifact: Path, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "own_texts", lambda *_: [[5, 6, 7]])
    facts, text = read_manifest(artifact), tmp_path / "text.txt"
    (tmp_path / "copy.txt").write_text(PROSE)
    (tmp_path / "other.txt").write_text(PROSE.replace("Paris", "Rome"))
    changes: dict[str, tuple[dict[str, Any], bool]] = {
        "nothing": ({}, True),
        "a copy of the text": ({"calibration": Calibration(tmp_path / "copy.txt", TOKENS)}, True),
        "another text": ({"calibration": Calibration(tmp_path / "other.txt", TOKENS)}, False),
        "fewer tokens": ({"calibration": Calibration(text, TOKENS - 1)}, False),
        "no compensation": ({"calibration": Calibration(text, TOKENS, False)}, False),
        "float16 scales": ({"calibration": Calibration(text, TOKENS, True, True)}, False),
        "own answers": ({"calibration": Calibration(None, TOKENS)}, False),
        "another checkpoint": ({"source_key": "b"}, False),
        "another tokenizer": ({"files": {"tokenizer.json": b"{}"}}, False),
        "another activation type": ({"facts": replace(facts, activation_type="float16")}, False),
        "other formats": ({"facts": replace(facts, quantization={})}, False),
    }
    marker = state / "texts.json"
    for name, (change, resumed) in changes.items():
        with pytest.raises(InterruptedBuildError):
            stop(start(), KeyboardInterrupt())
        marker.write_text(MARK)
        kept: list[bool] = []
        with pytest.raises(InterruptedBuildError):
            stop(start(**change), KeyboardInterrupt(), lambda: kept.append(_holds(marker)))  # noqa: B023
        assert kept == [resumed], name


def test_another_planned_context_is_the_same_calibration(start: Start, state: Path) -> None:
    def files(context: int) -> dict[str, bytes]:
        genai = {"model": {"context_length": context, "vocab_size": 9}, "search": {"max_length": context}}
        return {"tokenizer.json": b"{}", "genai_config.json": json.dumps(genai).encode()}

    kept: list[bool] = []
    for context, resumed in ((256, False), (128, True)):
        with pytest.raises(InterruptedBuildError):
            stop(start(files=files(context)), KeyboardInterrupt(), lambda: kept.append(_holds(state / "texts.json")))
        (state / "texts.json").write_text(MARK)
        assert kept == [resumed]
        kept.clear()


def _holds(marker: Path) -> bool:
    return marker.is_file() and marker.read_text() == MARK


def test_the_quantizer_resumes_at_the_layer_it_had_reached(start: Start) -> None:
    def interrupt(phase: str, done: float, total: float) -> None:
        if done >= 1:
            raise KeyboardInterrupt

    def run(progress: Progress) -> dict[str, bytes]:
        with start(progress=progress) as (quantize, _):
            return {matrix.name: packed.codes.tobytes() for matrix, packed in quantize(LAYOUT)}

    with pytest.raises(InterruptedBuildError):
        run(interrupt)
    reports: list[tuple[str, float, float]] = []
    resumed = run(lambda *report: reports.append(report))
    assert list(resumed) == [matrix.name for matrix in LAYOUT.calibrated()]
    assert reports[0] == ("calibrating layers", 1, 3), "two layers and the lm_head"
    assert reports[-1] == ("calibrating layers", 3, 3)
    assert resumed == run(no_progress)
