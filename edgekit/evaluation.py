"""``edgekit eval``: how far an artifact's predictions are from those of its float model, on a text.

Both models run a layer at a time (``export/streaming.py``): the artifact from its own bytes, the reference through the
float graph with weights read from the checkpoint as they are needed. So a model's float reference needs the memory of
one layer, whatever its size.

The text is cut into chunks; each is read from its first token and scored on its second half, where every position has
at least half a chunk of context (as llama.cpp's ``perplexity`` tool does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .artifact.manifest import Manifest, read_manifest
from .checkpoint import open_checkpoint
from .errors import TensorMismatchError, UsageError
from .export.decoder import LOGITS_START
from .export.float_model import FloatModel, empty_cache
from .export.model import MODEL_FILE
from .export.streaming import StreamedModel
from .export.weights import WeightSource
from .models import ModelSpec, spec_from_config
from .runtime.threads import physical_cores
from .runtime.tokenizer import Tokenizer

CHUNK_TOKENS = 512
_GROUP = 32  # chunks carried through the layers together: 32 x 512 x 4096 float32 hidden states are 268 MB

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Evaluation:
    """What ``eval`` measures, over all scored positions.

    Args:
        mean_kl, p99_kl: Kullback-Leibler divergence from the float model to the artifact, nats per token; its mean and
            its 99th percentile.
        top1: Share of positions where both models' likeliest token is the same.
        perplexity, reference_perplexity: exp of the mean negative log-likelihood of the text's own tokens.
        tokens: Positions scored.
    """

    mean_kl: float
    p99_kl: float
    top1: float
    perplexity: float
    reference_perplexity: float
    tokens: int


def evaluate(
    artifact: str | Path,
    reference: str | Path,
    text: str,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    max_chunks: int | None = None,
    threads: int | None = None,
    progress: Progress = lambda phase, done, total: None,
) -> Evaluation:
    """Measure an artifact against the checkpoint it was built from.

    Args:
        artifact: The artifact's folder.
        reference: The float checkpoint: a folder or a .gguf file.
        text: What to read; only whole chunks count, unless there is just one.
        chunk_tokens: Tokens in a chunk, at least 4.
        max_chunks: Stop after so many.
        threads: Default: physical cores.
        progress: Called with a phase's name, how much is done, and how much there is.

    Raises:
        UsageError: The text has fewer than four tokens, or the numbers make no sense.
        TensorMismatchError: The reference has other shapes than the artifact.
        EdgekitError: Either cannot be read.
    """
    folder, threads = Path(artifact), threads or physical_cores()
    manifest = read_manifest(folder)
    chunks = _chunks(Tokenizer.open(folder, manifest), text, chunk_tokens, max_chunks)
    with open_checkpoint(Path(reference)) as opened:
        spec = spec_from_config(opened.config)
        _check_same_model(spec, manifest, reference)
        source = WeightSource(opened, spec)
        ours = _Quantized(folder, manifest, spec, threads)
        theirs = _Float(source, spec, manifest.model["context_length"], threads)
        scores = _Scores()
        for start in range(0, len(chunks), _GROUP):
            group = chunks[start : start + _GROUP]
            share = f" ({start // _GROUP + 1}/{-(-len(chunks) // _GROUP)})" if len(chunks) > _GROUP else ""
            ours_hidden = ours.hidden(group, partial(progress, f"running the artifact{share}"))
            theirs_hidden = theirs.hidden(group, partial(progress, f"running the float model{share}"))
            for i, ids in enumerate(group):
                scores.add(ours.model.run_head(ours_hidden[i]), theirs.model.run_head(theirs_hidden[i]), ids)
                progress(f"comparing{share}", i + 1, len(group))
    return scores.result()


def _chunks(tokenizer: Tokenizer, text: str, chunk_tokens: int, max_chunks: int | None) -> list[list[int]]:
    if chunk_tokens < 4 or (max_chunks is not None and max_chunks < 1):
        raise UsageError(f"chunk_tokens is {chunk_tokens}, max_chunks {max_chunks}; at least 4 and 1 are needed")
    ids = tokenizer.encode(text, add_bos=False)
    bos = [tokenizer.bos] if tokenizer.add_bos and tokenizer.bos is not None else []
    size = chunk_tokens - len(bos)
    whole = [bos + ids[i : i + size] for i in range(0, len(ids) - size + 1, size)] or [bos + ids]
    if len(whole[0]) < 4:
        raise UsageError(f"the text has {len(ids)} tokens; at least 4 are needed, and {chunk_tokens} for a whole chunk")
    return whole[:max_chunks]


def _check_same_model(spec: ModelSpec, manifest: Manifest, reference: str | Path) -> None:
    for name in ("model_type", "vocab_size", "num_layers", "parameters"):
        if getattr(spec, name) != manifest.model[name]:
            raise TensorMismatchError(
                f"{name} of {reference} is {getattr(spec, name)}; the artifact {manifest.name} has "
                f"{manifest.model[name]}",
                hint="--reference takes the checkpoint the artifact was built from",
            )


class _Quantized:
    """The artifact, streamed from its files."""

    def __init__(self, folder: Path, manifest: Manifest, spec: ModelSpec, threads: int) -> None:
        graph = onnx.load(folder / MODEL_FILE, load_external_data=False)
        self.model = StreamedModel(graph, folder=folder, threads=threads)
        self._cache = empty_cache(spec, manifest.activation_type)

    def hidden(self, chunks: Sequence[list[int]], progress: Callable[[int, int], None]) -> list[NDArray[Any]]:
        """The final norm's output of each chunk's second half, (1, half, hidden)."""
        return _run(self.model, [self._feed(ids) for ids in chunks], len(chunks[0]), progress)

    def _feed(self, ids: list[int]) -> dict[str, NDArray[Any]]:
        mask = np.ones((1, len(ids)), np.int64)
        return {"input_ids": np.array([ids], np.int64), "attention_mask": mask, **self._cache}


class _Float:
    """The float model, streamed from its checkpoint."""

    def __init__(self, source: WeightSource, spec: ModelSpec, max_context: int, threads: int) -> None:
        self._float = FloatModel(source, spec, max_context, threads)
        self.model = self._float.model

    def hidden(self, chunks: Sequence[list[int]], progress: Callable[[int, int], None]) -> list[NDArray[Any]]:
        """As :meth:`_Quantized.hidden`."""
        return _run(self.model, [self._float.feed(ids) for ids in chunks], len(chunks[0]), progress)


class _Scores:
    """Collects what is compared, position by position."""

    def __init__(self) -> None:
        self._kl: list[NDArray[np.float32]] = []
        self._same: list[NDArray[np.bool_]] = []
        self._ours: list[NDArray[np.float32]] = []
        self._theirs: list[NDArray[np.float32]] = []

    def add(self, ours: NDArray[np.float32], theirs: NDArray[np.float32], ids: Sequence[int]) -> None:
        """Compare (1, kept, vocab) logits of the last ``kept`` positions of ``ids``; the very last has no target."""
        kept = ours.shape[1]
        targets = np.array(ids[len(ids) - kept + 1 :])
        for start in range(0, kept - 1, 64):  # 64 positions of a 152 k vocabulary are 39 MB
            part = slice(start, min(start + 64, kept - 1))
            a, b = _log_softmax(ours[0, part]), _log_softmax(theirs[0, part])
            self._kl.append((np.exp(b) * (b - a)).sum(-1))
            self._same.append(a.argmax(-1) == b.argmax(-1))
            each = np.arange(part.stop - part.start), targets[part]
            self._ours.append(-a[each])
            self._theirs.append(-b[each])

    def result(self) -> Evaluation:
        kl = np.concatenate(self._kl).astype(np.float64)
        return Evaluation(
            mean_kl=float(kl.mean()),
            p99_kl=float(np.quantile(kl, 0.99)),
            top1=float(np.concatenate(self._same).mean()),
            perplexity=float(np.exp(np.concatenate(self._ours).astype(np.float64).mean())),
            reference_perplexity=float(np.exp(np.concatenate(self._theirs).astype(np.float64).mean())),
            tokens=len(kl),
        )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits - logits.max(-1, keepdims=True)
    result: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _run(
    model: StreamedModel, feeds: list[dict[str, NDArray[Any]]], chunk: int, progress: Callable[[int, int], None]
) -> list[NDArray[Any]]:
    overrides = {LOGITS_START: np.array([chunk // 2], np.int64)}
    values = model.run_layers(feeds, overrides, keep_cache=False, progress=progress)
    return [v[model.head_input] for v in values]
