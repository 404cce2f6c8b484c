"""``edgekit run``: one answer, or a conversation."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from ..runtime.generation import Generation
from ..runtime.session import Session, load
from ..sampling import Sampling
from ._chat_loop import chat_loop
from ._engine_options import engine_option, kv_type_option
from ._output import emit_json, json_option, say
from ._stream import AnswerPrinter, figures, typed_text


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--prompt", help="Answer this and end; - reads it from stdin. Without it: a conversation.")
@click.option(
    "--max-tokens", type=click.IntRange(min=1), help="At most so many tokens; default: while context is left."
)
@click.option("--temperature", type=float, help="0 is greedy; default: the artifact's, as for the next four.")
@click.option("--top-p", type=float, help="Keep the likeliest tokens that together reach this probability.")
@click.option("--top-k", type=int, help="Keep so many of the likeliest tokens; 0 is off.")
@click.option("--min-p", type=float, help="Keep tokens at least so likely, relative to the likeliest; 0 is off.")
@click.option("--repetition-penalty", type=float, help="Above 1 discourages repetition; 1 is off.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Makes the answer repeatable.")
@engine_option
@click.option("--context", type=click.IntRange(min=1), help="Tokens of prompt and answer; default: as built.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads; default: one per physical core.")
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
    """Answer a prompt with ARTIFACT, or talk to it.

    The answer goes to stdout as it is made, its figures to stderr. On a terminal a reasoning model's thought is dimmed;
    elsewhere it stands between <think> tags.
    """
    if prompt is None and (as_json or raw):
        raise UsageError(f"{'--json' if as_json else '--raw'} needs --prompt", hint="--prompt - reads it from stdin")
    if prompt is not None:
        prompt = _read_stdin() if prompt == "-" else typed_text(prompt)
    given = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }
    with load(artifact, engine=engine, context=context, threads=threads, kv_type=kv_type) as session:
        chosen = _sampling(session.sampling, given)
        if prompt is None:
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
        say(click.style(figures(generation.completion), dim=True), err=True)


def _engine(session: Session) -> dict[str, str]:
    engine = session.engine
    return {"engine": engine.name, "kernel": engine.kernel, "kv_type": engine.kv_type}


def _begin(
    session: Session, prompt: str, raw: bool, max_tokens: int | None, sampling: Sampling, seed: int | None
) -> Generation:
    if not prompt.strip():
        raise UsageError("the prompt is empty")
    if raw:
        return session.generate(prompt, max_tokens=max_tokens, sampling=sampling, seed=seed)
    return session.chat([{"role": "user", "content": prompt}], max_tokens=max_tokens, sampling=sampling, seed=seed)


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt on stdin is not UTF-8: {error}") from None


def _sampling(defaults: Sampling, given: dict[str, Any]) -> Sampling:
    """The artifact's defaults with what the command line says."""
    try:
        return replace(defaults, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
