"""The calibration of a build: its texts, what a later build can resume, and what the manifest says about it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..artifact.manifest import RuntimeFacts
from ..artifact.writer import disk_error
from ..errors import BudgetError, BuildError, DiskFullError, InterruptedBuildError
from ..export.model import LayerQuantizer
from ..layout import DataLayout, Matrix
from ..models.spec import ModelSpec
from ..progress import Progress, phase
from ..quantize.gptq import DAMPING, DRIFT_DAMPING, DRIFT_SHARE
from ..quantize.packing import PackedLinear
from ..runtime.chat import ChatTemplate
from ..runtime.tokenizer import Tokenizer
from ..weights.source import WeightSource
from .layers import LayerSettings, calibrate
from .own_answers import own_texts
from .state import CalibrationState
from .texts import PROMPTS, TEXT_TOKENS, Texts, read_texts, tokens_digest


@dataclass(frozen=True)
class Calibration:
    """The settings of a calibration.

    Args:
        file: The calibration text; None for the model's own answers to edgekit's prompts.
        tokens: The largest number of tokens to use.
        compensate, half_scales: See :class:`~edgekit.calibration.layers.LayerSettings`.
    """

    file: Path | None
    tokens: int
    compensate: bool = True
    half_scales: bool = False


@contextmanager
def calibrated_layers(
    calibration: Calibration,
    state_folder: Path,
    artifact: Path,
    facts: RuntimeFacts,
    spec: ModelSpec,
    source: WeightSource,
    source_key: Mapping[str, Any],
    files: Mapping[str, bytes],
    threads: int,
    progress: Progress,
) -> Iterator[tuple[LayerQuantizer, dict[str, Any]]]:
    """Choose the calibration texts and provide the quantizer of the layers; keep its state if the build is interrupted.

    Args:
        calibration: What to use.
        state_folder: Where the state is kept, so that a later build can resume.
        artifact: The folder being written, with the tokenizer's files in it.
        facts: What the artifact's manifest will say.
        spec: The model.
        source: Its weights.
        source_key: Tells one checkpoint from another.
        files: The artifact's small files.
        threads: Threads of onnxruntime and of the native kernels.
        progress: Receives the progress of each phase.

    Yields:
        A function for :func:`~edgekit.export.model.export_model`, and the manifest's ``calibration``.

    Raises:
        UsageError: The calibration file cannot be used, or another build calibrates in the same folder.
        InterruptedBuildError, DiskFullError: Ctrl-C, or no space; the message says that the work is kept.
        BuildError, BudgetError: As the block raises them. What was calibrated is kept, because a build with other
            options may use it; the hint says so. After any other error it is deleted.
    """
    tokenizer = Tokenizer.open(artifact, facts.tokens)
    template = ChatTemplate.open(artifact, tokenizer, reasoning=facts.reasoning)
    from_file = _texts_of_file(calibration, tokenizer, template, spec.context_length)
    state = CalibrationState(state_folder, _fingerprint(calibration, from_file, facts, spec, source_key, files))
    stage = _Stage()
    with _kept_or_removed(state, state_folder, stage, calibration.half_scales):
        texts = from_file or state.texts(
            lambda: own_texts(
                state.draft, facts, spec, source, files, calibration.tokens, threads,
                phase(progress, "generating calibration texts"),
            )
        )  # fmt: skip
        settings = LayerSettings(threads, calibration.compensate, calibration.half_scales)

        def quantize(layout: DataLayout) -> Iterator[tuple[Matrix, PackedLinear]]:
            report = phase(progress, "calibrating layers")
            try:
                yield from calibrate(source, spec, layout, texts, state, settings, report)
            except Exception:
                stage.calibrates = True
                raise

        stage.calibrates = False
        yield quantize, _described(calibration, texts)


def _texts_of_file(
    calibration: Calibration, tokenizer: Tokenizer, template: ChatTemplate | None, context: int
) -> Texts | None:
    """The texts of the calibration file, none longer than the model's context; None if there is no file."""
    if calibration.file is None:
        return None
    return read_texts(calibration.file, tokenizer, template, calibration.tokens, min(TEXT_TOKENS, context))


@dataclass
class _Stage:
    """Whether an error comes from the calibration, and not from what uses its matrices."""

    calibrates: bool = True


@contextmanager
def _kept_or_removed(state: CalibrationState, folder: Path, stage: _Stage, half_scales: bool) -> Iterator[None]:
    """Keep the state if the build is interrupted, or fails so that another one can use it; remove it otherwise."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedBuildError(
            f"the build was interrupted; the calibration so far is kept in {folder}",
            hint="run the same command again to resume it, or delete that folder",
        ) from None
    except (DiskFullError, OSError, MemoryError) as error:  # of the system, not of the input
        full: Exception = error
        if isinstance(error, OSError):
            where = None if error.filename is None else Path(os.fsdecode(error.filename))
            full = disk_error(error, where, None)
        if not isinstance(full, DiskFullError):
            raise
        raise DiskFullError(
            f"{full.message}; the calibration so far is kept in {folder}",
            hint="free some space and run the same command again to resume it, or delete that folder",
        ) from None
    except (BuildError, BudgetError) as error:
        if stage.calibrates:
            state.remove()  # the same input would fail again in the same way
        else:
            kept = (
                f"the calibration so far is kept in {folder}: a build of the same output with the same "
                "quantization and calibration texts resumes it"
            ) + (", if it emits a GPTQ checkpoint as well" if half_scales else "")
            error.hint = f"{error.hint}. {kept[0].upper()}{kept[1:]}" if error.hint else kept
        raise
    except Exception:
        state.remove()
        raise
    else:
        state.remove()
    finally:
        state.close()


def _described(calibration: Calibration, texts: Texts) -> dict[str, Any]:
    """The manifest's ``calibration``."""
    return {
        "source": "own answers" if calibration.file is None else "file",
        "texts": len(texts),
        "tokens": sum(map(len, texts)),
        "tokens_sha256": tokens_digest(texts),
        "inputs": "quantized" if calibration.compensate else "float",
    }


def _fingerprint(
    calibration: Calibration,
    texts: Texts | None,
    facts: RuntimeFacts,
    spec: ModelSpec,
    source_key: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """Everything that the state depends on; a build with another fingerprint starts from the beginning."""
    return {
        "edgekit": version("edgekit-llm"),
        "model": _digest(asdict(spec)),
        "source": dict(source_key),
        "files": {name: hashlib.sha256(_lasting(name, content)).hexdigest() for name, content in files.items()},
        "quantization": facts.quantization,
        "activation_type": facts.activation_type,
        "sampling": facts.sampling,
        "calibration": asdict(calibration) | {"file": None},
        "text_tokens": TEXT_TOKENS,
        "streams": 2 if calibration.compensate else 1,
        "arithmetic": "float products, the engine's attention",
        "damping": [DAMPING, DRIFT_DAMPING, DRIFT_SHARE],
        "texts": hashlib.sha256(PROMPTS.read_bytes()).hexdigest() if texts is None else _digest(texts),
    }


def _lasting(name: str, content: bytes) -> bytes:
    """A file without the planned context, which may change while the calibration stays the same."""
    if name != "genai_config.json":
        return content
    settings = json.loads(content)
    for part, key in (("model", "context_length"), ("search", "max_length")):
        settings.get(part, {}).pop(key, None)
    return json.dumps(settings, sort_keys=True).encode()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
