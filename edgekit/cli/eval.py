"""``edgekit eval``: compares the predictions of an artifact with those of its float model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from ..json_file import MAX_TEXT_BYTES, read_bounded
from . import _options as options
from ._failures import needs_memory
from ._output import Column, emit_json, open_screen, progress_bars

if TYPE_CHECKING:
    from ..quality.scores import Figures

_CHUNK_TOKENS = 512  # edgekit.quality.evaluation.CHUNK_TOKENS, whose module takes long to import


@options.command(
    "edgekit eval smollm2-135m-cpu --reference SmolLM2-135M-Instruct.Q4_1.gguf",
    "edgekit eval my-artifact --reference ./my-finetune --text prose.txt --json",
    see_also="edgekit build makes the same comparison and refuses artifacts that miss the recipe's thresholds.",
)
@options.artifact
@click.option(
    "--reference",
    required=True,
    type=click.Path(),
    help="Compare with this float checkpoint: a Hugging Face folder or a .gguf file.",
)
@click.option(
    "--lora",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(),
    help="Merge this LoRA adapter into the float checkpoint, as the build of ARTIFACT did. A PEFT folder; may be given "
    "several times, in the order of the build.",
)
@click.option(
    "--text",
    "text_file",
    type=click.Path(path_type=Path),
    help="Read this UTF-8 text file  [default: the held-out texts that edgekit build uses]",
)
@options.count(
    "--chunk-tokens",
    "With --text: read this many tokens at a time; the second half of each chunk is scored  "
    f"[default: {_CHUNK_TOKENS}]",
    least=4,
)
@options.count("--max-chunks", "With --text: stop after this many chunks  [default: read the whole text]", metavar="N")
@options.threads
@options.as_json
@needs_memory(200)
def command(
    artifact: Path,
    reference: str,
    lora: tuple[str, ...],
    text_file: Path | None,
    chunk_tokens: int | None,
    max_chunks: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare the predictions of ARTIFACT with those of the float checkpoint it was built from.

    Reports the Kullback-Leibler divergence, how often both predict the same token, and both perplexities.

    Both models run one layer at a time, so even a large float checkpoint needs little memory.
    """
    from ..quality.evaluation import evaluate  # imports numpy and onnx

    text = None if text_file is None else _read(text_file)
    with progress_bars() as progress:
        result = evaluate(
            artifact, reference, text, lora=lora, chunk_tokens=chunk_tokens, max_chunks=max_chunks,
            threads=threads, progress=progress,
        )  # fmt: skip
    if as_json:
        emit_json(dataclasses.asdict(result))
    else:
        _report(result)


def _read(path: Path) -> str:
    try:
        return read_bounded(path, MAX_TEXT_BYTES, UsageError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the text {path} as UTF-8: {error}") from None


def _report(result: Figures) -> None:
    rows = (
        ("KL divergence, mean", f"{result.mean_kl:.4f} nats per token"),
        ("KL divergence, 99th percentile", f"{result.p99_kl:.4f} nats per token"),
        ("same top token", f"{result.top1:.1%}"),
        ("perplexity", f"{result.perplexity:.3f} (float model: {result.reference_perplexity:.3f})"),
        ("scored tokens", f"{result.tokens}"),
    )
    open_screen().table((Column(), Column(wraps=True)), rows)
