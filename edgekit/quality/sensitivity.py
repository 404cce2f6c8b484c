r"""Measures the loss of each matrix in 4 bits: KL from the float model to one in which only that matrix is rounded.

    embedding -> layer 0 -> layer 1 -> ... -> lm_head -> KL of each
         \          \__ each matrix of the layer rounded: four more variants of the hidden states
          \__ rounded: a variant that continues next to the float one

A layer is read once for a group of variants, and only their hidden states are kept. Rounding is to nearest, which is
enough to rank the matrices and needs no calibration.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import RuntimeFacts
from ..calibration.texts import sample_texts
from ..durable import write_file
from ..errors import CalibrationError, DiscardedStateWarning
from ..export.decoder import ALL_POSITIONS
from ..layout import Matrix
from ..models.spec import ModelSpec, TensorRef
from ..planning.widths import EMBEDDING, LM_HEAD, choose_widths, narrow
from ..progress import Share, no_share
from ..quantize.rtn import NonFiniteError, quantize_rows
from ..scheme import QuantizationConfig, QuantizationScheme
from ..streaming.float_model import EMBEDDED, FloatModel
from ..streaming.graph import Values
from ..weights.source import WeightSource, unusable_weight
from .scores import Scores

# On SmolLM2-135M the losses on 128 and on 256 tokens differ by 10 %; the largest is about 100 times the smallest.
MOST_TOKENS, LEAST_TOKENS = 128, 64
_MULTIPLY_ADDS = 10 * 10**12  # for all variants in all layers: some minutes on two cores
GROUP_BYTES = 128 << 20  # limit for the widest tensor between two pieces of a layer, of a group of variants
_ROUNDED_WEIGHTS = 4 << 20  # weights rounded at a time


def sample_tokens(spec: ModelSpec) -> int:
    """How many tokens to measure a model on; fewer for a large one."""
    layer = sum(linear.out_features * linear.in_features for linear in spec.layers[0].linears)
    variants = 2 * spec.num_layers  # on average in a layer, since each layer adds four
    affordable = _MULTIPLY_ADDS // (variants * spec.num_layers * layer)
    return max(LEAST_TOKENS, min(affordable, MOST_TOKENS))


def measured_widths(
    folder: Path,
    facts: RuntimeFacts,
    source: WeightSource,
    spec: ModelSpec,
    quantization: QuantizationConfig,
    text: Path | None,
    cache: Path,
    source_key: Mapping[str, Any],
    threads: int,
    progress: Share,
) -> tuple[QuantizationConfig, dict[str, Any]]:
    """Choose the width of each matrix by its loss on a text.

    Args:
        folder: The artifact being written, with the tokenizer's files in it.
        facts: What its manifest will say.
        source: The float weights.
        spec: The model.
        quantization: Formats with ``mean_bits``.
        text: A calibration text; None for edgekit's prompts.
        cache: A file that keeps the losses, for a build that resumes after an interruption.
        source_key: Tells one checkpoint from another.
        threads: Threads of onnxruntime.
        progress: Called with (work done, work in all).

    Returns:
        The formats with chosen widths, and the manifest's ``widths``.

    Raises:
        UsageError: The text cannot be used, or no choice of widths comes to that mean.
        CalibrationError, NonFiniteWeightError: As :func:`measure_losses`.
    """
    texts = sample_texts(folder, facts, text, sample_tokens(spec))
    kind = facts.activation_type
    key = {
        "edgekit": version("edgekit-llm"), "source": dict(source_key), "model": asdict(spec), "activation_type": kind,
        "quantization": asdict(narrow(quantization)), "scaling": facts.quantization.get("scaling"),
        "texts": [list(ids) for ids in texts],
    }  # fmt: skip
    losses = _read_losses(cache, key)
    if losses is None:
        losses = measure_losses(source, spec, quantization, kind, texts, threads, progress)
        _write_losses(cache, key, losses)
    found = {name: float(f"{loss:.3g}") if np.isfinite(loss) else None for name, loss in losses.items()}
    described = {"mean_bits": quantization.mean_bits, "tokens": sum(map(len, texts)), "losses": found}
    return choose_widths(spec, quantization, kind, losses), described


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _read_losses(path: Path, key: Mapping[str, Any]) -> dict[str, float] | None:
    """The losses that an interrupted build measured; None if there are none, they are of other inputs, or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        losses: dict[str, float] = found["losses"]
        whole = found["sha256"] == _digest({"key": found["key"], "losses": losses})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole or found["key"] != _digest(key):
        what = "is of other inputs" if whole else "is damaged"
        warnings.warn(f"{path} {what}; the losses are measured again", DiscardedStateWarning, stacklevel=2)
        return None
    return losses


def _write_losses(path: Path, key: Mapping[str, Any], losses: Mapping[str, float]) -> None:
    content = {"key": _digest(key), "losses": losses}
    with suppress(OSError):  # the losses are only a cache
        write_file(path, json.dumps({**content, "sha256": _digest(content)}).encode())


def measure_losses(
    source: WeightSource,
    spec: ModelSpec,
    quantization: QuantizationConfig,
    activation_type: str,
    texts: Sequence[Sequence[int]],
    threads: int,
    progress: Share = no_share,
) -> dict[str, float]:
    """Measure every matrix of a model.

    Args:
        source: The float weights.
        spec: The model.
        quantization: Block size and zero points of each part; the widths are those of
            :func:`~edgekit.planning.widths.narrow`.
        activation_type: The type that stores the scales.
        texts: Token ids; every position counts.
        threads: Threads of onnxruntime.
        progress: Called with (work done, work in all).

    Returns:
        Mean KL in nats per token by the matrix's name in ``layout.py``; infinite if the logits are not finite.

    Raises:
        CalibrationError: The float model's own hidden states are NaN or infinite; the message names the layer.
        NonFiniteWeightError: A weight is NaN or infinite, or too large for the activation type.
    """
    return _Variants(source, spec, narrow(quantization), activation_type, texts, threads).losses(progress)


class _Variants:
    """The hidden states of the float model, and of every variant in which one matrix is rounded."""

    def __init__(
        self,
        source: WeightSource,
        spec: ModelSpec,
        quantization: QuantizationConfig,
        activation_type: str,
        texts: Sequence[Sequence[int]],
        threads: int,
    ) -> None:
        self._source, self._spec, self._texts = source, spec, texts
        self._quantization, self._scale_type = quantization, activation_type
        self._float = FloatModel(source, spec, max(map(len, texts)), threads)
        self._exact: list[Values] = [self._float.feed(ids) for ids in texts]
        self._of: dict[str, list[Values]] = {EMBEDDING: [self._rounded_embedding(ids) for ids in texts]}

    def losses(self, progress: Share) -> dict[str, float]:
        """Run everything through the model and compare."""
        layers = self._float.layout.layers
        total = sum(range(1, len(layers) + 1)) * 10 / 9  # each layer adds four variants; the head takes a tenth
        self._advance(0)
        for i, layer in enumerate(layers):
            progress(i * (i + 1) / 2, total)
            before = [dict(values) for values in self._exact]
            self._advance(i + 1)
            for matrix in layer.matrices:
                self._of[matrix.name] = self._branch(i + 1, matrix, before)
            if not all(np.isfinite(array).all() for values in self._exact for array in values.values()):
                raise CalibrationError(
                    f"the float model produces NaN or infinity after layers.{i}",
                    hint="the checkpoint is damaged, or its activations are too large for float32",
                )
        progress(total * 0.9, total)
        self._advance(len(layers) + 1)
        found = self._compare()
        progress(total, total)
        return found

    def _advance(self, stage: int) -> None:
        for group in self._groups():
            self._float.graph.run_stage(stage, group, ALL_POSITIONS)

    def _groups(self) -> Iterator[list[Values]]:
        """All variants, in groups that fit into memory together."""
        live = [self._exact, *self._of.values()]
        widest = 4 * 2 * self._spec.intermediate_size * sum(map(len, self._texts))
        together = max(1, GROUP_BYTES // widest)
        for start in range(0, len(live), together):
            yield [values for texts in live[start : start + together] for values in texts]

    def _branch(self, stage: int, matrix: Matrix, before: Sequence[Values]) -> list[Values]:
        """The hidden states after a layer, with one matrix rounded and everything else in float."""
        live = [dict(values) for values in before]
        scheme = self._scheme(self._quantization.inside(matrix.name))
        rounded = np.concatenate([self._rounded(p.weight, scheme) for p in matrix.parts])
        self._float.graph.run_stage(stage, live, {**ALL_POSITIONS, f"{matrix.name}.weight": rounded})
        return live

    def _rounded_embedding(self, ids: Sequence[int]) -> Values:
        scheme = self._scheme(self._quantization.embedding)
        rows = {i: self._rows(self._spec.embedding, i, i + 1, scheme)[0] for i in set(ids)}
        return self._float.feed(ids) | {EMBEDDED: np.stack([rows[i] for i in ids])[None]}

    def _compare(self) -> dict[str, float]:
        """KL of every variant, and of the rounded head on float hidden states."""
        model, head = self._float.graph, self._spec.lm_head.weight
        scheme = self._scheme(self._quantization.lm_head)
        exact, *others = (
            np.concatenate([values[model.head_input] for values in texts], 1)
            for texts in (self._exact, *self._of.values())
        )
        scores = {name: Scores(np.zeros(exact.shape[1], np.int64)) for name in (*self._of, LM_HEAD)}
        for (first, last), product in model.head_parts():
            expected = product(exact)[0]
            for name, hidden in zip(self._of, others, strict=True):
                scores[name].add(first, 0, product(hidden)[0], expected)
            with np.errstate(over="ignore", invalid="ignore"):
                rounded = exact[0] @ self._rows(head, first, last, scheme).T
            scores[LM_HEAD].add(first, 0, rounded, expected)
        return {name: _mean(found) for name, found in scores.items()}

    def _rounded(self, ref: TensorRef, scheme: QuantizationScheme) -> NDArray[np.float32]:
        """A weight rounded and dequantized, (out, in), some rows at a time."""
        rows, columns = ref.shape
        result = np.empty((rows, columns), np.float32)
        step = max(1, _ROUNDED_WEIGHTS // columns)
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            result[start:stop] = self._rows(ref, start, stop, scheme)
        return result

    def _rows(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> NDArray[np.float32]:
        try:
            return quantize_rows(self._source.rows(ref, start, stop), scheme, self._scale_type).dequantize()
        except NonFiniteError as error:
            dtype = np.dtype(self._scale_type)
            raise unusable_weight(ref, error.value, dtype, start + error.row, error.column) from None

    def _scheme(self, scheme: QuantizationScheme | None) -> QuantizationScheme:
        if scheme is None:
            raise AssertionError("narrow() quantizes every part")
        return scheme


def _mean(scores: Scores) -> float:
    mean = float(scores.kl().mean())
    return max(mean, 0.0) if np.isfinite(mean) else float("inf")
