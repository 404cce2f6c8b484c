"""The conversation of ``edgekit run`` without ``--prompt``."""

from __future__ import annotations

import contextlib
import sys

import click

from ..errors import ContextLengthError, UsageError
from ..runtime.chat import Message
from ..runtime.generation import Generation
from ..runtime.session import Session
from ..sampling import Sampling
from ._output import print_error, say
from ._stream import AnswerPrinter, figures, typed_text

_PROMPT = "> "
_HELP = "/reset forgets the conversation, /exit or Ctrl-D ends it, Ctrl-C stops an answer"


def chat_loop(session: Session, *, max_tokens: int | None, sampling: Sampling, seed: int | None) -> None:
    """Read a line, answer it, and again, until ``/exit`` or the end of the input.

    Args:
        session: An open session with a chat template.
        max_tokens: Per answer.
        sampling: For every answer.
        seed: For every answer; None draws a fresh one.

    Raises:
        TokenizerError: The artifact has no chat template.
    """
    session.render([{"role": "user", "content": "?"}])  # no template: say so before the first question
    _enable_line_editing()
    _remark(f"{session.manifest.name}, {session.engine.kernel}. {_HELP}")
    messages: list[Message] = []
    while (line := _read_line()) is not None:
        if line == "/exit":
            return
        if line == "/reset":
            messages = []
            _remark("forgotten")
        elif line.startswith("/"):
            say(f"no command {line}; {_HELP}", err=True)
        elif line:
            messages = _turn(session, messages, line, max_tokens, sampling, seed)


def _turn(
    session: Session,
    messages: list[Message],
    line: str,
    max_tokens: int | None,
    sampling: Sampling,
    seed: int | None,
) -> list[Message]:
    """Answer a line; the conversation as it stands after."""
    try:
        asked: list[Message] = [*messages, {"role": "user", "content": typed_text(line)}]
        generation = session.chat(asked, max_tokens=max_tokens, sampling=sampling, seed=seed)
    except (ContextLengthError, UsageError) as error:
        print_error(error)
        _remark("this question was left out; /reset forgets the conversation")
        return messages
    _show(generation)
    completion = generation.completion
    _remark(figures(completion))
    return [*asked, {"role": "assistant", "content": completion.answer}]


def _show(generation: Generation) -> None:
    """Print an answer; Ctrl-C ends the answer, not the program."""
    printer = AnswerPrinter()
    try:
        for piece in generation:
            printer.show(piece)
    except KeyboardInterrupt:
        generation.stop()
    finally:
        printer.end()


def _remark(text: str) -> None:
    say(click.style(text, dim=True), err=True)


def _read_line() -> str | None:
    """The next line without the space around it; None at the end of the input."""
    while True:
        try:
            return input(_PROMPT if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            print(file=sys.stderr)  # leaves the half-typed line, as shells do


def _enable_line_editing() -> None:
    """Arrow keys and history where the platform has them."""
    if not sys.stdin.isatty():
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (importing it is what enables it)
