"""An artifact and its float model run side by side over some texts, a layer at a time (``streaming/graph.py``).

The artifact runs from its own bytes, the reference through the float graph with weights read from the checkpoint as
they are needed, so a model's float reference needs the memory of a part of one layer, whatever its size. As both go
through the layers together, what each layer costs by itself is measured on the way: the artifact's layer is also run on
what the float model's layers before it gave. The reference is the checkpoint as it is, even where the artifact is in
another basis (``weights/rotated.py``): its hidden states are rotated where they enter the artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..artifact.manifest import Manifest
from ..errors import QualityError
from ..export.decoder import ALL_POSITIONS
from ..export.model import MODEL_FILE
from ..models import ModelSpec
from ..streaming.float_model import FloatModel, empty_cache
from ..streaming.graph import StreamedModel, Values
from ..weights.checkpoint import WeightSource
from ..weights.rotated import hidden_basis
from .scores import Figures, Scores, figures

# Tokens carried through the layers together. Between two pieces of an 8B layer their widest tensor (28672) takes
# 117 MB; reading the weights again for the next group costs a tenth of computing with them for so many.
_GROUP_TOKENS = 1024
_HEAD_POSITIONS = 256  # whose logits exist at a time, for a part of the vocabulary: 4 MB at most
_LOSS_TOKENS = 128  # on which each layer is also run by itself: a mean over so many positions ranks the layers


@dataclass(frozen=True)
class Passage:
    """A text to read.

    Args:
        ids: Token ids.
        start: The first id that is to be predicted, at least 1; those before it are context.
    """

    ids: Sequence[int]
    start: int

    @property
    def scored(self) -> slice:
        """The positions whose logits are compared."""
        return slice(self.start - 1, len(self.ids) - 1)


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Args:
        figures: Over all scored positions.
        losses: For ``embedding``, each of ``layers.0`` ... and ``lm_head``: what its quantization alone does. The mean
            over positions of |quantized - float| / |float|, of the hidden state behind it (of the logits, from their
            mean, for ``lm_head``), where everything before it was float.
    """

    figures: Figures
    losses: dict[str, float]


def compare(
    folder: Path,
    manifest: Manifest,
    source: WeightSource,
    spec: ModelSpec,
    passages: Sequence[Passage],
    threads: int,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Comparison:
    """Run both models over the passages.

    Args:
        folder: The artifact: ``model.onnx`` and its data.
        manifest: Its manifest.
        source: The float weights.
        spec: The model.
        passages: At least one, each with at least one id to predict.
        threads: For onnxruntime.
        progress: Called with how much is done and how much there is.

    Raises:
        QualityError: The float model's own hidden states are no numbers; the layer is named.
        EdgekitError: The weights cannot be read.
    """
    groups = list(_groups(passages))
    pair = _Pair(folder, manifest, source, spec, threads)
    scores: list[Scores] = []
    losses: dict[str, float] = {}
    for number, group in enumerate(groups):

        def report(done: float, number: int = number) -> None:
            progress(number + done, len(groups))

        sample = _sample(group) if number == 0 else []
        run = _Run(pair, group, sample)
        for stage in range(pair.stages):
            report(0.9 * stage / pair.stages)
            run.advance(stage)
        scores.append(run.compare_heads(lambda done, report=report: report(0.9 + 0.1 * done)))  # type: ignore[misc]
        losses |= run.losses
    return Comparison(figures(scores), losses)


def _groups(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    group: list[Passage] = []
    for passage in passages:
        if group and sum(len(p.ids) for p in group) + len(passage.ids) > _GROUP_TOKENS:
            yield group
            group = []
        group.append(passage)
    yield group


def _sample(group: Sequence[Passage]) -> list[int]:
    """The first passages that together have enough positions for the losses."""
    chosen, tokens = [], 0
    for i, passage in enumerate(group):
        if tokens < _LOSS_TOKENS:
            chosen.append(i)
            tokens += len(passage.ids)
    return chosen


class _Pair:
    """Both models."""

    def __init__(self, folder: Path, manifest: Manifest, source: WeightSource, spec: ModelSpec, threads: int) -> None:
        graph = onnx.load(folder / MODEL_FILE, load_external_data=False)
        self.ours = StreamedModel(graph, folder=folder, threads=threads)
        self.float = FloatModel(source, spec, manifest.model["context_length"], threads)
        self.theirs = self.float.model
        self.stages = self.ours.num_stages
        self.activation_type = manifest.activation_type
        self._basis = hidden_basis(spec.hidden_size) if manifest.quantization.get("rotate") else None
        self._cache = empty_cache(spec, manifest.activation_type)

    def feed(self, ids: Sequence[int]) -> Values:
        """The artifact's inputs."""
        return {
            "input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, len(ids)), np.int64), **self._cache,
        }  # fmt: skip

    def rotated(self, hidden: NDArray[Any]) -> NDArray[Any]:
        """The float model's hidden states in the artifact's basis."""
        return hidden if self._basis is None else self._basis.rows(hidden)

    def reference(self, values: Values, stage: int) -> NDArray[Any]:
        """The float model's hidden state before a stage, in the artifact's basis, (1, tokens, hidden)."""
        return self.rotated(_hidden(self.theirs, values, stage))


class _Run:
    """Some passages on their way through both models.

    Args:
        pair: The models.
        passages: The passages.
        sample: Those on which each layer is also run by itself.
    """

    def __init__(self, pair: _Pair, passages: Sequence[Passage], sample: Sequence[int]) -> None:
        self._pair, self._passages, self._sample = pair, passages, sample
        self._ours: list[Values] = [pair.feed(p.ids) for p in passages]
        self._theirs: list[Values] = [pair.float.feed(p.ids) for p in passages]
        self.losses: dict[str, float] = {}
        self._normed: list[NDArray[Any]] = []  # what the artifact's head reads where all before it was float

    def advance(self, stage: int) -> None:
        """Take everything one stage further."""
        pair, layers = self._pair, self._pair.stages - 2
        # The artifact's layer on the float model's hidden states, with the artifact's own lengths and empty cache.
        alone = [self._ours[i] | self._float_hidden(stage, i) for i in self._sample] if stage else []
        pair.ours.run_stage(stage, [*self._ours, *alone], ALL_POSITIONS)
        pair.theirs.run_stage(stage, self._theirs, ALL_POSITIONS)
        if stage > layers:
            self._normed = [values[pair.ours.head_input] for values in alone]
            return
        name = "embedding" if stage == 0 else f"layers.{stage - 1}"
        for passage, values in zip(self._passages, self._theirs, strict=True):
            if not np.isfinite(_hidden(pair.theirs, values, stage + 1)).all():
                raise QualityError(
                    f"the float model itself gives NaN or infinity behind {name}, on a text of {len(passage.ids)} "
                    "tokens: there is nothing to measure the artifact against",
                    hint="the checkpoint is damaged, or its activations are too large for float32",
                )
        if self._sample:
            found = alone or [self._ours[i] for i in self._sample]
            errors = [self._loss(values, i, stage) for values, i in zip(found, self._sample, strict=True)]
            self.losses[name] = float(np.concatenate(errors).mean())

    def _float_hidden(self, stage: int, passage: int) -> Values:
        names = zip(self._pair.ours.residual(stage), self._pair.theirs.residual(stage), strict=True)
        values = self._theirs[passage]
        return {ours: self._pair.rotated(values[theirs]).astype(self._pair.activation_type) for ours, theirs in names}

    def _loss(self, alone: Values, passage: int, stage: int) -> NDArray[np.float64]:
        scored = self._passages[passage].scored
        ours = _hidden(self._pair.ours, alone, stage + 1)[0, scored]
        theirs = self._pair.reference(self._theirs[passage], stage + 1)[0, scored]
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(np.linalg.norm(ours - theirs, axis=-1) / np.linalg.norm(theirs, axis=-1), np.float64)

    def compare_heads(self, progress: Callable[[float], None]) -> Scores:
        """Compare the logits of all scored positions."""
        pair, passages = self._pair, self._passages
        targets = np.concatenate([np.array(p.ids[p.start :], np.int64) for p in passages])
        ours, theirs = (
            np.concatenate([v[model.head_input][:, p.scored] for v, p in zip(live, passages, strict=True)], 1)
            for model, live in ((pair.ours, self._ours), (pair.theirs, self._theirs))
        )
        sampled = sum(len(passages[i].ids) - passages[i].start for i in self._sample)
        normed = [x[:, passages[i].scored] for i, x in zip(self._sample, self._normed, strict=True)]
        alone, inputs = _HeadLoss(sampled), np.concatenate(normed, 1) if normed else None
        scores = Scores(targets)
        parts = zip(pair.ours.head_parts(), pair.theirs.head_parts(), strict=True)
        for ((first, last), our_product), (_, their_product) in parts:
            for start in range(0, len(targets), _HEAD_POSITIONS):
                at = slice(start, start + _HEAD_POSITIONS)
                w = their_product(theirs[:, at])[0]
                scores.add(first, start, our_product(ours[:, at])[0].astype(np.float32, copy=False), w)
                if inputs is not None and start < sampled:
                    some = slice(start, min(start + _HEAD_POSITIONS, sampled))
                    z = our_product(inputs[:, some])[0]
                    alone.add(some, z.astype(np.float32, copy=False), w[: len(z)])
            progress(last / pair.float.layout.lm_head.out_features)
        if self._sample:
            self.losses["lm_head"] = alone.result()
        return scores


class _HeadLoss:
    """The relative error of logits, from their mean, which says nothing; summed over parts of the vocabulary."""

    def __init__(self, positions: int) -> None:
        self._error, self._sum, self._squares = (np.zeros(positions) for _ in range(3))
        self._rows = 0

    def add(self, at: slice, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
        """Take (positions, rows) logits."""
        with np.errstate(invalid="ignore", over="ignore"):
            self._error[at] += np.square(ours - theirs).sum(-1, dtype=np.float64)
            self._sum[at] += theirs.sum(-1, dtype=np.float64)
            self._squares[at] += np.square(theirs).sum(-1, dtype=np.float64)
        if at.start == 0:
            self._rows += ours.shape[1]

    def result(self) -> float:
        spread = self._squares - self._sum**2 / max(self._rows, 1)
        return float(np.sqrt(self._error / np.maximum(spread, np.finfo(np.float64).tiny)).mean())


def _hidden(model: StreamedModel, values: Values, stage: int) -> NDArray[Any]:
    """The hidden state before a stage, (1, tokens, hidden) float32."""
    first, second = model.residual(stage)
    x = values[first].astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        return x if first == second else x + values[second].astype(np.float32, copy=False)
