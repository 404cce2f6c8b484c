"""``edgekit eval``: how far an artifact's predictions are from those of its float model, on a text.

Without a text: on the texts that the gate of a build reads (``quality/held_out.py``). A text is cut into chunks; each
is read from its first token and scored on its second half, where every position has at least half a chunk of context
(as llama.cpp's ``perplexity`` tool does).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..artifact.manifest import Manifest, read_manifest
from ..checkpoint import open_checkpoint
from ..errors import TensorMismatchError, UsageError
from ..host import physical_cores
from ..models import ModelSpec, spec_from_config
from ..runtime.chat import ChatTemplate
from ..runtime.tokenizer import Tokenizer
from ..weights.checkpoint import WeightSource
from .compare import Passage, compare
from .held_out import held_out
from .scores import Figures

CHUNK_TOKENS = 512
HELD_OUT_TOKENS = 1024  # as the gate's default

Progress = Callable[[str, float, float], None]


def evaluate(
    artifact: str | Path,
    reference: str | Path,
    text: str | None = None,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    max_chunks: int | None = None,
    threads: int | None = None,
    progress: Progress = lambda phase, done, total: None,
) -> Figures:
    """Measure an artifact against the checkpoint it was built from.

    Args:
        artifact: The artifact's folder.
        reference: The float checkpoint: a folder or a .gguf file.
        text: What to read; only whole chunks count, unless there is just one. None: the held-out texts of the gate.
        chunk_tokens: Tokens in a chunk, at least 4; never more than the artifact's context.
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
    tokenizer = Tokenizer.open(folder, manifest)
    context = manifest.model["context_length"]
    if text is None:
        template = ChatTemplate.open(folder, tokenizer)
        passages = held_out(tokenizer, template, manifest.reasoning, context, HELD_OUT_TOKENS)
    else:
        chunks = _chunks(tokenizer, text, min(chunk_tokens, context), max_chunks)
        passages = [Passage(ids, len(ids) // 2 + 1) for ids in chunks]
    with open_checkpoint(Path(reference)) as opened:
        spec = spec_from_config(opened.config)
        _check_same_model(spec, manifest, reference)
        phase = "comparing with the float model"
        found = compare(
            folder, manifest, WeightSource(opened, spec), spec, passages, threads,
            lambda done, total: progress(phase, done, total),
        )  # fmt: skip
    progress(phase, 1, 1)
    return found.figures


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
