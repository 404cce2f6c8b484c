"""``edgekit eval``: how far an artifact's predictions are from its float model's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ..errors import UsageError
from ..quality.evaluation import CHUNK_TOKENS, evaluate
from ..quality.scores import Figures
from ._output import emit_json, json_option, progress_bars


@click.command()
@click.argument("artifact", type=click.Path())
@click.option("--reference", required=True, type=click.Path(), help="The float checkpoint: a folder or a .gguf file.")
@click.option("--text", "text_file", type=click.Path(),
              help="What to read: a UTF-8 text file [default: the texts that build measures on].")  # fmt: skip
@click.option("--chunk-tokens", type=click.IntRange(min=4), default=CHUNK_TOKENS, show_default=True,
              help="Tokens read at a time; the second half of each chunk is scored.")  # fmt: skip
@click.option("--max-chunks", type=click.IntRange(min=1), help="Stop after so many chunks [default: the whole text].")
@click.option("--threads", type=click.IntRange(min=1), help="Threads [default: physical cores].")
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
    """Compare ARTIFACT with the float checkpoint it was built from, on a text.

    Without --text it reads what the gate of edgekit build reads: answers in several languages, maths, code and prose.

    Both run a layer at a time, so even a large model's float reference needs little memory.

    \b
      edgekit eval smollm2-135m-cpu --reference SmolLM2-135M-Instruct.Q4_1.gguf --text prose.txt
    """
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
    for label, value in (
        ("KL divergence, mean", f"{result.mean_kl:.4f} nats per token"),
        ("KL divergence, 99th percentile", f"{result.p99_kl:.4f} nats per token"),
        ("same likeliest token", f"{result.top1:.1%}"),
        ("perplexity", f"{result.perplexity:.3f} (float model: {result.reference_perplexity:.3f})"),
        ("scored tokens", f"{result.tokens}"),
    ):
        click.echo(f"{label:<32}{value}")
