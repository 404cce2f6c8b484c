"""A build's calibration: which texts, what may be resumed, and what the manifest says of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..artifact.manifest import Manifest
from ..errors import DiskFullError, EdgekitError, InterruptedBuildError
from ..export.model import LayerQuantizer
from ..layout import DataLayout, Matrix
from ..models.spec import ModelSpec
from ..quantize.gptq import DAMPING, DRIFT_DAMPING, DRIFT_SHARE
from ..quantize.packing import PackedLinear
from ..runtime.chat import ChatTemplate
from ..runtime.tokenizer import Tokenizer
from ..weights.checkpoint import WeightSource
from .layers import calibrate
from .own_answers import own_texts
from .state import CalibrationState
from .texts import PROMPTS, TEXT_TOKENS, read_texts, tokens_digest


@dataclass(frozen=True)
class Calibration:
    """What a calibration is made from.

    Args:
        file: The text, or None for the model's own answers.
        tokens: How many at most.
        compensate: Inputs come from layers that are quantized already, outputs are to be the float model's; False: both
            are the float model's.
        half_scales: Codes are chosen for scales that float16 holds, as a GPTQ checkpoint wants them.
    """

    file: Path | None
    tokens: int
    compensate: bool = True
    half_scales: bool = False

    @contextmanager
    def quantizer(
        self,
        state_folder: Path,
        artifact: Path,
        spec: ModelSpec,
        source: WeightSource,
        source_files: Mapping[str, Any],
        files: Mapping[str, bytes],
        manifest: Manifest,
        threads: int,
        progress: Callable[[str, float, float], None],
    ) -> Iterator[tuple[LayerQuantizer, dict[str, Any]]]:
        """Choose the texts, and give what quantizes the layers; what it has reached is kept when it is interrupted.

        Args:
            state_folder: Where that is kept.
            artifact: The folder being written, with the tokenizer's files in it.
            spec, source: The model and its weights.
            source_files: Tells one checkpoint from another.
            files: The artifact's small files.
            manifest: The artifact's, as far as it is known.
            threads: For everything.
            progress: Called with a phase's name, how much is done, and how much there is.

        Returns:
            A function for ``export_model``, and what the manifest says of the calibration.

        Raises:
            UsageError: The calibration file cannot be used, or another build calibrates in that folder.
            InterruptedBuildError: Ctrl-C; the message says that the work is kept.
        """
        tokenizer = Tokenizer.open(artifact, manifest)
        template = ChatTemplate.open(artifact, tokenizer)
        texts = None if self.file is None else read_texts(self.file, tokenizer, template, self.tokens)
        state = CalibrationState(state_folder, self._fingerprint(texts, spec, source_files, files, manifest))
        try:
            if texts is None:
                texts = state.texts(
                    lambda: own_texts(
                        state.draft, spec, source, files, manifest, self.tokens, threads,
                        lambda done, total: progress("the model answers prompts", done, total),
                    )
                )  # fmt: skip
            found = texts

            def layers(layout: DataLayout) -> Iterator[tuple[Matrix, PackedLinear]]:
                return calibrate(
                    source, spec, layout, found, state, threads, self.compensate, self.half_scales,
                    lambda done, total: progress("calibrating the layers", done, total),
                )  # fmt: skip

            yield layers, self._described(texts)
        except KeyboardInterrupt:
            state.close()
            raise InterruptedBuildError(
                f"the build was interrupted; what it calibrated is kept in {state_folder}",
                hint="the same command goes on where it was; remove that folder if you do not want to",
            ) from None
        except EdgekitError as error:
            if isinstance(error, DiskFullError):
                state.close()
            else:  # it would only happen again
                state.remove()
            raise
        state.remove()

    def _described(self, texts: list[list[int]]) -> dict[str, Any]:
        return {
            "source": "own answers" if self.file is None else "file",
            "texts": len(texts),
            "tokens": sum(map(len, texts)),
            "tokens_sha256": tokens_digest(texts),
            "inputs": "quantized" if self.compensate else "float",
        }

    def _fingerprint(
        self,
        texts: list[list[int]] | None,
        spec: ModelSpec,
        source_files: Mapping[str, Any],
        files: Mapping[str, bytes],
        manifest: Manifest,
    ) -> dict[str, Any]:
        return {
            "edgekit": manifest.edgekit_version,
            "model": _digest(asdict(spec)),
            "source": dict(source_files),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "quantization": manifest.quantization,
            "activation_type": manifest.activation_type,
            "sampling": manifest.sampling,
            "calibration": asdict(self) | {"file": None},
            "text_tokens": TEXT_TOKENS,
            "streams": 2 if self.compensate else 1,
            "arithmetic": "float products, the engine's attention",
            "damping": [DAMPING, DRIFT_DAMPING, DRIFT_SHARE],
            "texts": hashlib.sha256(PROMPTS.read_bytes()).hexdigest() if texts is None else _digest(texts),
        }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
