"""Runs an artifact and its float model side by side on texts, one layer at a time (``streaming/graph.py``).

The artifact runs from its own bytes. The reference runs through the float graph with weights read from the checkpoint
as they are needed, so it needs the memory of a part of one layer, whatever the size of the model. Since both go through
the layers together, the loss of each single layer is measured on the way: the artifact's layer also runs on the output
of the float model's layers before it. The reference is the unchanged checkpoint. If the artifact is in another basis
(``weights/rotated.py``), the float hidden states are rotated before they enter the artifact's layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..artifact.manifest import RuntimeFacts
from ..errors import QualityError
from ..export.decoder import ALL_POSITIONS
from ..export.model import MODEL_FILE
from ..models import ModelSpec
from ..progress import Share, no_share
from ..streaming.float_model import FloatModel, empty_cache
from ..streaming.graph import StreamedModel, Values
from ..weights.rotated import hidden_basis
from ..weights.source import WeightSource
from .scores import Figures, Scores, figures

# Tokens that go through the layers together. Their widest tensor between two pieces of an 8B layer (28672 numbers a
# token) takes 117 MB. Reading the weights again for the next group takes a tenth of the time of computing with them.
_GROUP_TOKENS = 1024
_HEAD_POSITIONS = 256  # positions whose logits exist at a time, for a part of the vocabulary: 4 MB at most
_LOSS_TOKENS = 128  # tokens on which each layer also runs alone: enough to rank the layers


@dataclass(frozen=True)
class Passage:
    """A text to read.

    Args:
        ids: Token ids.
        start: Index of the first id to predict, at least 1; the ids before it are context.
    """

    ids: Sequence[int]
    start: int

    @property
    def scored(self) -> slice:
        """The positions whose logits are compared."""
        return slice(self.start - 1, len(self.ids) - 1)


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Args:
        figures: Over all scored positions.
        losses: The effect of quantizing one part alone, for ``embedding``, ``layers.0`` ... and ``lm_head``: the mean
            over positions of |quantized - float| / |float| of the hidden state after the part (for ``lm_head`` of the
            logits, less their mean), with everything before it in float.
    """

    figures: Figures
    losses: dict[str, float]


def compare(
    folder: Path,
    facts: RuntimeFacts,
    source: WeightSource,
    spec: ModelSpec,
    passages: Sequence[Passage],
    threads: int,
    progress: Share = no_share,
) -> Comparison:
    """Run both models on passages.

    Args:
        folder: The artifact: ``model.onnx`` and its data.
        facts: What its manifest says, or will say.
        source: The float weights.
        spec: The model.
        passages: At least one, each with at least one id to predict.
        threads: Threads of onnxruntime.
        progress: Called with (groups of passages done, groups in all), fractions included.

    Raises:
        QualityError: The float model's own hidden states are NaN or infinite; the message names the layer.
        EdgekitError: The weights cannot be read.
    """
    groups = list(_groups(passages))
    pair = _Pair(folder, facts, source, spec, threads)
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
    """Indices of the first passages that together have enough positions for the losses."""
    chosen, tokens = [], 0
    for i, passage in enumerate(group):
        if tokens < _LOSS_TOKENS:
            chosen.append(i)
            tokens += len(passage.ids)
    return chosen


class _Pair:
    """The artifact (``ours``) and the float model (``theirs``)."""

    def __init__(self, folder: Path, facts: RuntimeFacts, source: WeightSource, spec: ModelSpec, threads: int) -> None:
        graph = onnx.load(folder / MODEL_FILE, load_external_data=False)
        self.ours = StreamedModel(graph, folder=folder, threads=threads)
        self.float = FloatModel(source, spec, facts.model["context_length"], threads)
        self.theirs = self.float.graph
        self.stages = self.ours.num_stages
        self.activation_type = facts.activation_type
        self._basis = hidden_basis(spec.hidden_size) if facts.quantization.get("rotate") else None
        self._scale = facts.quantization.get("activation_scale", {}).get("residual", 1)
        self._cache = empty_cache(spec, facts.activation_type)

    def feed(self, ids: Sequence[int]) -> Values:
        """The artifact's inputs."""
        return {
            "input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, len(ids)), np.int64), **self._cache,
        }  # fmt: skip

    def rotated(self, hidden: NDArray[Any]) -> NDArray[Any]:
        """Hidden states of the float model, in the artifact's basis and as small as the artifact's."""
        hidden = hidden if self._basis is None else self._basis.rows(hidden)
        return hidden if self._scale == 1 else hidden * np.float32(self._scale)

    def reference(self, values: Values, stage: int) -> NDArray[Any]:
        """The float model's hidden state before a stage, in the artifact's basis, (1, tokens, hidden)."""
        return self.rotated(_hidden(self.theirs, values, stage))


class _Run:
    """A group of passages on its way through both models.

    Args:
        pair: The models.
        passages: The passages.
        sample: Indices of the passages on which each layer also runs alone.
    """

    def __init__(self, pair: _Pair, passages: Sequence[Passage], sample: Sequence[int]) -> None:
        self._pair, self._passages, self._sample = pair, passages, sample
        self._ours: list[Values] = [pair.feed(p.ids) for p in passages]
        self._theirs: list[Values] = [pair.float.feed(p.ids) for p in passages]
        self.losses: dict[str, float] = {}
        self._normed: list[NDArray[Any]] = []  # input of the artifact's head after float layers

    def advance(self, stage: int) -> None:
        """Run one stage of both models."""
        pair, layers = self._pair, self._pair.stages - 2
        # The artifact's layer on the float model's hidden states, with the artifact's own lengths and cache.
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
                    f"the float model itself produces NaN or infinity after {name}, on a text of {len(passage.ids)} "
                    "tokens, so the artifact cannot be measured against it",
                    hint="the checkpoint is damaged, or its activations are too large for float32",
                )
        if self._sample:
            found = alone or [self._ours[i] for i in self._sample]
            errors = [self._loss(values, i, stage) for values, i in zip(found, self._sample, strict=True)]
            self.losses[name] = float(np.concatenate(errors).mean())

    def _float_hidden(self, stage: int, passage: int) -> Values:
        names = zip(self._pair.ours.residual(stage), self._pair.theirs.residual(stage), strict=True)
        values = self._theirs[passage]
        kind = self._pair.activation_type
        with np.errstate(over="ignore"):  # an overflow shows in the result
            return {ours: self._pair.rotated(values[theirs]).astype(kind) for ours, theirs in names}

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
    """The relative error of logits less their mean (which has no effect), summed over parts of the vocabulary."""

    def __init__(self, positions: int) -> None:
        self._error, self._sum, self._squares = (np.zeros(positions) for _ in range(3))
        self._rows = 0

    def add(self, at: slice, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
        """Add logits, (positions, rows of the vocabulary)."""
        with np.errstate(invalid="ignore", over="ignore"):
            self._error[at] += np.square(ours - theirs).sum(-1, dtype=np.float64)
            self._sum[at] += theirs.sum(-1, dtype=np.float64)
            self._squares[at] += np.square(theirs).sum(-1, dtype=np.float64)
        if at.start == 0:
            self._rows += ours.shape[1]

    def result(self) -> float:
        with np.errstate(invalid="ignore", over="ignore"):  # infinite sums
            spread = self._squares - self._sum**2 / max(self._rows, 1)
            return float(np.sqrt(self._error / np.maximum(spread, np.finfo(np.float64).tiny)).mean())


def _hidden(model: StreamedModel, values: Values, stage: int) -> NDArray[Any]:
    """The hidden state before a stage, (1, tokens, hidden) float32."""
    first, second = model.residual(stage)
    x = values[first].astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        return x if first == second else x + values[second].astype(np.float32, copy=False)
