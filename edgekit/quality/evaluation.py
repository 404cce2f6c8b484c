"""``edgekit eval``: how far an artifact's predictions are from those of its float model.

The default texts are those of the build's quality gate (``held_out.py``). A text of the user's is cut into chunks. Each
chunk is read from its first token and scored on its second half, where every position has at least half a chunk of
context (as in llama.cpp's ``perplexity`` tool).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..arguments import check_count, one_or_several
from ..artifact.verify import verify
from ..errors import UsageError, told_paths
from ..host import physical_cores
from ..progress import Progress, no_progress, phase
from ..runtime.chat import ChatTemplate
from ..runtime.engine import refuse_web_folder
from ..runtime.template_budget import shared_budget
from ..runtime.tokenizer import Tokenizer
from ..threads import MOST_THREADS
from ..weights.checkpoint import CheckpointWeights
from .compare import Passage, compare
from .held_out import held_out
from .reference import open_reference
from .scores import Figures

CHUNK_TOKENS = 512
HELD_OUT_TOKENS = 1024  # as the gate's default


def evaluate(
    artifact: str | Path,
    reference: str | Path,
    text: str | None = None,
    *,
    lora: str | Path | Sequence[str | Path] = (),
    chunk_tokens: int | None = None,
    max_chunks: int | None = None,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> Figures:
    """Measure an artifact against the checkpoint it was built from.

    Args:
        artifact: The artifact's folder.
        reference: The float checkpoint: a folder or a .gguf file.
        text: The text to read. An incomplete last chunk is dropped unless it is the only one. None: the held-out texts
            of the quality gate.
        lora: The folders of the adapters that the artifact was built with, in the same order.
        chunk_tokens: Tokens in a chunk of ``text``, at least 4; limited by the artifact's context. None for 512.
        max_chunks: Stop after this many chunks of ``text``; None for all.
        threads: Threads of onnxruntime; None for one per physical core.
        progress: Receives the progress of each phase.

    Returns:
        KL divergence, perplexities and top-1 agreement over all scored positions.

    Raises:
        UsageError: The text has fewer than four tokens, a number is too small, chunks are given without ``text``, or
            the artifact was built with other adapters than those given.
        TensorMismatchError: The reference, or an adapter, is not what the artifact was built from.
        EdgekitError: The artifact or the reference cannot be read.
    """
    _check_counts(text, chunk_tokens, max_chunks, threads)
    adapters = one_or_several("lora", lora, UsageError)
    folder, threads = Path(artifact), threads or physical_cores()
    refuse_web_folder(folder)
    manifest = verify(folder, progress)  # what is cut off or changed is told before anything is measured
    tokenizer = Tokenizer.open(folder, manifest.tokens)
    context = manifest.model["context_length"]
    if text is None:
        template = ChatTemplate.open(folder, tokenizer, reasoning=manifest.reasoning)
        with shared_budget():
            passages = held_out(tokenizer, template, manifest.reasoning, context, HELD_OUT_TOKENS)
    else:
        chunks = _chunks(tokenizer, text, min(chunk_tokens or CHUNK_TOKENS, context), max_chunks)
        passages = [Passage(ids, len(ids) // 2 + 1) for ids in chunks]
    with told_paths(), open_reference(reference, adapters, manifest) as (opened, spec):
        report = phase(progress, "comparing with the float model")
        found = compare(folder, manifest, CheckpointWeights(opened, spec), spec, passages, threads, report)
    report(1, 1)
    return found.figures


def _check_counts(text: str | None, chunk_tokens: int | None, max_chunks: int | None, threads: int | None) -> None:
    counts = (("chunk_tokens", chunk_tokens, 4, None), ("max_chunks", max_chunks, 1, None))
    for name, value, least, most in (*counts, ("threads", threads, 1, MOST_THREADS)):
        if value is not None:
            check_count(name, value, least, UsageError, most)
    for option, value in (("--chunk-tokens", chunk_tokens), ("--max-chunks", max_chunks)):
        if value is not None and text is None:
            raise UsageError(
                f"{option} needs --text: the held-out texts are read as the quality gate reads them",
                hint=f"add --text FILE, or remove {option}",
            )


def _chunks(tokenizer: Tokenizer, text: str, chunk_tokens: int, max_chunks: int | None) -> list[list[int]]:
    ids = tokenizer.encode(text, add_bos=False)
    bos = [tokenizer.bos] if tokenizer.add_bos and tokenizer.bos is not None else []
    size = chunk_tokens - len(bos)
    whole = [bos + ids[i : i + size] for i in range(0, len(ids) - size + 1, size)] or [bos + ids]
    if len(whole[0]) < 4:
        raise UsageError(f"the text has {len(ids)} tokens; at least 4 are needed, and {chunk_tokens} for a whole chunk")
    return whole[:max_chunks]
