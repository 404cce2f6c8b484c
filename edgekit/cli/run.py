"""``edgekit run``: one answer, or a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import _options as options
from ._failures import needs_memory
from ._output import emit_json, open_screen, print_planned_cache
from ._stream import figures, piped_text, print_answer, typed_text

if TYPE_CHECKING:
    from ..runtime.chat import Message
    from ..runtime.generation import Generation
    from ..runtime.session import Session
    from ..runtime.watch import LoopGuard
    from ..sampling import Sampling
    from ._stream import Thoughts


# The metavar, type and help of the option for each field of Sampling.
_SAMPLING: dict[str, tuple[str, type[int] | type[float], str]] = {
    "temperature": ("X", float, "Sample at this temperature; 0 is greedy"),
    "top_p": ("P", float, "Sample from the most likely tokens whose probabilities add up to this"),
    "top_k": ("N", int, "Sample from this many of the most likely tokens; 0 disables this"),
    "min_p": ("P", float, "Drop tokens less likely than this fraction of the most likely one; 0 disables this"),
    "repetition_penalty": ("X", float, "Penalize tokens that have occurred before: 0.01 or more; 1 disables this"),
}
_SAMPLING_OPTIONS: dict[str, options.Decorator] = {
    name: click.option(
        f"--{name.replace('_', '-')}", metavar=metavar, type=kind, help=f"{help_text}  [default: the artifact's]"
    )
    for name, (metavar, kind, help_text) in _SAMPLING.items()
}


@options.command(
    "edgekit run smollm2-135m-cpu",
    'edgekit run smollm2-135m-cpu --prompt "What is the capital of France?"',
    "edgekit run smollm2-135m-cpu --prompt - --json < question.txt",
    see_also="edgekit build makes an artifact, edgekit bench measures its speed.",
)
@options.artifact
@click.option("--prompt", help="Answer this prompt and exit; - reads the prompt from stdin.")
@options.count("--max-tokens", "Generate at most this many tokens per answer  [default: as many as the context holds]")
@options.group("changes", dict, _SAMPLING_OPTIONS)
@click.option(
    "--seed",
    metavar="N",
    type=int,
    help="Seed the sampler; the same command on the same machine then gives the same answer.",
)
@options.count("--think-tokens", "Close a thought after this many tokens; the answer follows  [default: no limit]")
@click.option(
    "--thoughts",
    type=click.Choice(["show", "fold", "hide"]),
    help="Show a reasoning model's thought, fold it to one line (on a terminal), or hide it  [default: show]",
)
@click.option(
    "--loop-guard",
    type=click.Choice(["thought", "off", "all"]),
    default="thought",
    show_default=True,
    help="Break out of repetition, in the thought or in all of the answer: make the repeated tokens less likely and, "
    "if that does not help, close the thought or end the answer.",
)
@options.engine
@options.count("--context", "Make room for this many tokens of prompt and answer together  [default: as built]")
@options.threads
@options.kv_type
@click.option(
    "--prepare/--no-prepare",
    default=True,
    show_default=True,
    help="In a conversation with a reasoning model, prepare the next turn while you read. Its prompt leaves out the "
    "thought, so the answer has to be evaluated again.",
)
@click.option(
    "--speculate/--no-speculate",
    default=True,
    show_default=True,
    help="Guess the next tokens from earlier text and evaluate several together, which is faster where the answer "
    "repeats something. The answer stays the same. (native engine)",
)
@options.public_key("Run the artifact only if this key has signed it")
@click.option(
    "--draft",
    metavar="ARTIFACT",
    type=click.Path(path_type=Path),
    help="Let this small artifact guess tokens as well. It must have the same vocabulary, takes memory of its own and "
    "reads the prompts, too. The answer stays the same. (native engine)",
)
@click.option("--raw", is_flag=True, help="Continue the prompt as plain text, without the chat template.")
@options.as_json
@needs_memory(200)
def command(
    artifact: Path,
    prompt: str | None,
    max_tokens: int | None,
    changes: dict[str, Any],
    seed: int | None,
    think_tokens: int | None,
    thoughts: Thoughts | None,
    loop_guard: LoopGuard,
    engine: str,
    context: int | None,
    threads: int | None,
    kv_type: str | None,
    prepare: bool,
    speculate: bool,
    public_key: str | None,
    draft: Path | None,
    raw: bool,
    as_json: bool,
) -> None:
    """Answer a prompt with ARTIFACT, or hold a conversation with it.

    Without --prompt, ARTIFACT answers what you type until you enter /exit; /help lists the commands.

    The answer is written to stdout as it is generated; token counts and speed go to stderr. On a terminal, a reasoning
    model's thought is dimmed; elsewhere it stands between <think> tags. --thoughts fold or hide leaves it out.
    """
    _check(prompt, as_json, raw, think_tokens, seed)
    _check_shown(thoughts, as_json, raw)
    if draft is not None and not speculate:
        raise UsageError("--draft cannot be combined with --no-speculate", hint="a draft model guesses tokens")
    if prompt is not None:
        prompt = piped_text() if prompt == "-" else typed_text(prompt)
    from ..runtime.loading import load  # imports numpy and tokenizers

    prepare = prepare and prompt is None
    with load(artifact, engine, context, threads, kv_type, prepare, speculate, public_key, draft) as session:
        _check_thinks(session, think_tokens)
        print_planned_cache(session.manifest.plan, session.engine.kv_type, kv_type)
        sampling = _sampling(session.sampling, changes)

        def answer(messages: Sequence[Message], most: int | None = think_tokens) -> Generation:
            return session.chat(
                messages,
                max_tokens=max_tokens,
                sampling=sampling,
                seed=seed,
                think_tokens=most,
                loop_guard=loop_guard,
                on_full="slide",
            )

        if prompt is None:
            from ._chat_loop import chat_loop
            from ._conversation import Conversation

            chat_loop(Conversation(session, thoughts or "show", think_tokens), answer)
            return
        if not prompt.strip():
            raise UsageError("the prompt is empty", hint="give --prompt a text, or leave it out to hold a conversation")
        if raw:
            generation = session.generate(
                prompt, max_tokens=max_tokens, sampling=sampling, seed=seed, loop_guard=loop_guard
            )
        else:
            generation = answer([{"role": "user", "content": prompt}])
        if as_json:
            emit_json(_to_json(session, generation))
        else:
            _print(generation, thoughts or "show")


def _check(prompt: str | None, as_json: bool, raw: bool, think_tokens: int | None, seed: int | None) -> None:
    """Refuse options that do not go together, and a seed that is out of range."""
    if prompt is None and (as_json or raw):
        raise UsageError(
            f"{'--json' if as_json else '--raw'} needs --prompt",
            hint="add --prompt TEXT, or --prompt - to read it from stdin",
        )
    if raw and think_tokens is not None:
        raise UsageError("--think-tokens cannot be combined with --raw", hint="plain text has no thought")
    if seed is not None and not 0 <= seed < 1 << 64:
        raise UsageError(f"--seed is {seed}; it must be 0 or more and below 2^64")


def _check_shown(thoughts: Thoughts | None, as_json: bool, raw: bool) -> None:
    """Refuse a way to show thoughts where none are shown."""
    if thoughts is not None and as_json:
        raise UsageError(
            "--thoughts cannot be combined with --json", hint="the object has the thought apart from the answer"
        )
    if thoughts is not None and raw:
        raise UsageError("--thoughts cannot be combined with --raw", hint="plain text has no thought")


def _check_thinks(session: Session, think_tokens: int | None) -> None:
    """Refuse a limit on the thoughts of a model that has none."""
    if think_tokens is not None and not session.manifest.reasoning:
        raise UsageError(
            f"--think-tokens: {session.manifest.name} does not think before it answers",
            hint="build it with --reasoning if it does",
        )


def _print(generation: Generation, thoughts: Thoughts) -> None:
    """Write the answer to stdout as it is generated, then its figures to stderr."""
    print_answer(generation, thoughts)
    open_screen(err=True).say((figures(generation.completion), "dim"))


def _to_json(session: Session, generation: Generation) -> dict[str, Any]:
    """The finished answer, and what computed it."""
    engine = session.engine
    ran = {"engine": engine.name, "kernel": engine.kernel, "kv_type": engine.kv_type}
    return asdict(generation.complete()) | ran


def _sampling(defaults: Sampling, changes: dict[str, Any]) -> Sampling:
    """The artifact's sampling settings, changed by the options that were given."""
    try:
        return replace(defaults, **{name: value for name, value in changes.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
