"""``edgekit eval``: compares the predictions of an artifact with those of its float model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from ._engine_options import threads_option
from ._output import emit_json, json_option, open_screen, progress_bars

if TYPE_CHECKING:
    from ..quality.scores import Figures

_CHUNK_TOKENS = 512  # edgekit.quality.evaluation.CHUNK_TOKENS, whose module takes long to import
_EXAMPLES = """
\b
Examples:
  edgekit eval smollm2-135m-cpu --reference SmolLM2-135M-Instruct.Q4_1.gguf
  edgekit eval my-artifact --reference ./my-finetune --text prose.txt --json

See also: edgekit build makes the same comparison and refuses artifacts that miss the recipe's thresholds.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("artifact", type=click.Path())
@click.option(
    "--reference",
    required=True,
    type=click.Path(),
    help="Compare with this float checkpoint: a Hugging Face folder or a .gguf file.",
)
@click.option(
    "--text",
    "text_file",
    type=click.Path(),
    help="Read this UTF-8 text file  [default: the held-out texts that edgekit build uses]",
)
@click.option(
    "--chunk-tokens",
    metavar="TOKENS",
    type=click.IntRange(min=4),
    default=_CHUNK_TOKENS,
    show_default=True,
    help="Read this many tokens at a time; the second half of each chunk is scored.",
)
@click.option(
    "--max-chunks",
    metavar="N",
    type=click.IntRange(min=1),
    help="Stop after this many chunks  [default: read the whole text]",
)
@threads_option
@json_option
def command(
    artifact: str,
    reference: str,
    text_file: str | None,
    chunk_tokens: int,
    max_chunks: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare the predictions of ARTIFACT with those of the float checkpoint it was built from.

    Reports the Kullback-Leibler divergence, how often both predict the same token, and both perplexities.

    Both models run one layer at a time, so even a large float checkpoint needs little memory.
    """
    from ..quality.evaluation import evaluate  # imports numpy and onnx

    text = None if text_file is None else _read(Path(text_file))
    with progress_bars() as progress:
        result = evaluate(
            artifact, reference, text, chunk_tokens=chunk_tokens, max_chunks=max_chunks,
            threads=threads, progress=progress,
        )  # fmt: skip
    if as_json:
        emit_json(dataclasses.asdict(result))
    else:
        _report(result)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the text {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        found = error.object[error.start]
        raise UsageError(f"the text {path} is not UTF-8: byte {error.start} is {found:#04x}") from None


def _report(result: Figures) -> None:
    from ._screen import Column

    rows = (
        ("KL divergence, mean", f"{result.mean_kl:.4f} nats per token"),
        ("KL divergence, 99th percentile", f"{result.p99_kl:.4f} nats per token"),
        ("same top token", f"{result.top1:.1%}"),
        ("perplexity", f"{result.perplexity:.3f} (float model: {result.reference_perplexity:.3f})"),
        ("scored tokens", f"{result.tokens}"),
    )
    open_screen().table((Column(), Column(wraps=True)), rows)
