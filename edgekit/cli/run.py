"""``edgekit run``: one answer, or a conversation."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ._engine_options import engine_option, kv_type_option, threads_option
from ._output import emit_json, json_option, open_screen
from ._stream import AnswerPrinter, figures, typed_text

if TYPE_CHECKING:
    from ..runtime.generation import Generation
    from ..runtime.session import Session
    from ..sampling import Sampling

_EXAMPLES = """
\b
Examples:
  edgekit run smollm2-135m-cpu
  edgekit run smollm2-135m-cpu --prompt "What is the capital of France?"
  edgekit run smollm2-135m-cpu --prompt - --json < question.txt

See also: edgekit build makes an artifact, edgekit bench measures its speed.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--prompt", help="Answer this prompt and exit; - reads the prompt from stdin.")
@click.option(
    "--max-tokens",
    metavar="TOKENS",
    type=click.IntRange(min=1),
    help="Generate at most this many tokens per answer  [default: as many as the context holds]",
)
@click.option(
    "--temperature", metavar="X", type=float, help="Sample at this temperature; 0 is greedy  [default: the artifact's]"
)
@click.option(
    "--top-p",
    metavar="P",
    type=float,
    help="Sample from the likeliest tokens that together reach this probability  [default: the artifact's]",
)
@click.option(
    "--top-k",
    metavar="N",
    type=int,
    help="Sample from this many of the likeliest tokens; 0 disables  [default: the artifact's]",
)
@click.option(
    "--min-p",
    metavar="P",
    type=float,
    help="Drop tokens less likely than this fraction of the likeliest; 0 disables  [default: the artifact's]",
)
@click.option(
    "--repetition-penalty",
    metavar="X",
    type=float,
    help="Penalize tokens that occurred before; 1 disables  [default: the artifact's]",
)
@click.option("--seed", metavar="N", type=int, help="Seed the sampler, which makes the answer repeatable.")
@engine_option
@click.option(
    "--context",
    metavar="TOKENS",
    type=click.IntRange(min=1),
    help="Hold this many tokens of prompt and answer together  [default: as built]",
)
@threads_option
@kv_type_option
@click.option("--raw", is_flag=True, help="Continue the prompt as plain text, without the chat template.")
@json_option
def command(
    artifact: Path,
    prompt: str | None,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    min_p: float | None,
    repetition_penalty: float | None,
    seed: int | None,
    engine: str,
    context: int | None,
    threads: int | None,
    kv_type: str | None,
    raw: bool,
    as_json: bool,
) -> None:
    """Answer a prompt with ARTIFACT, or hold a conversation with it.

    Without --prompt, ARTIFACT answers what you type until you enter /exit.

    The answer is written to stdout as it is generated; token counts and speed go to stderr. On a terminal the thought
    of a reasoning model is dimmed; elsewhere it stands between <think> tags.
    """
    if prompt is None and (as_json or raw):
        raise UsageError(
            f"{'--json' if as_json else '--raw'} needs --prompt",
            hint="add --prompt TEXT, or --prompt - to read it from stdin",
        )
    if prompt is not None:
        prompt = _read_stdin() if prompt == "-" else typed_text(prompt)
    given = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }
    from ..runtime.session import load  # imports numpy and tokenizers

    with load(artifact, engine=engine, context=context, threads=threads, kv_type=kv_type) as session:
        chosen = _sampling(session.sampling, given)
        if prompt is None:
            from ._chat_loop import chat_loop

            chat_loop(session, max_tokens=max_tokens, sampling=chosen, seed=seed)
            return
        generation = _begin(session, prompt, raw, max_tokens, chosen, seed)
        if as_json:
            completion = generation.complete()
            emit_json(asdict(completion) | _engine(session))
            return
        printer = AnswerPrinter()
        for piece in generation:
            printer.show(piece)
        printer.end()
        open_screen(err=True).say((figures(generation.completion), "dim"))


def _engine(session: Session) -> dict[str, str]:
    engine = session.engine
    return {"engine": engine.name, "kernel": engine.kernel, "kv_type": engine.kv_type}


def _begin(
    session: Session, prompt: str, raw: bool, max_tokens: int | None, sampling: Sampling, seed: int | None
) -> Generation:
    if not prompt.strip():
        raise UsageError("the prompt is empty", hint="give --prompt a text, or leave it out to hold a conversation")
    if raw:
        return session.generate(prompt, max_tokens=max_tokens, sampling=sampling, seed=seed)
    return session.chat([{"role": "user", "content": prompt}], max_tokens=max_tokens, sampling=sampling, seed=seed)


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt on stdin is not UTF-8: {error}") from None


def _sampling(defaults: Sampling, given: dict[str, Any]) -> Sampling:
    """The artifact's sampling settings, changed by the options given."""
    try:
        return replace(defaults, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
