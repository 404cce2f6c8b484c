"""The conversation of ``edgekit run`` without ``--prompt``."""

from __future__ import annotations

import contextlib
import sys

from ..errors import ContextLengthError
from ..runtime.chat import Message
from ..runtime.generation import Generation
from ..runtime.sampler import SamplingConfig
from ..runtime.session import Session
from ._output import print_error, stderr_console
from ._stream import AnswerPrinter, figures

_PROMPT = "> "
_HELP = "/reset forgets the conversation, /exit or Ctrl-D ends it, Ctrl-C stops an answer"


def chat_loop(session: Session, *, max_tokens: int | None, sampling: SamplingConfig) -> None:
    """Read a line, answer it, and again, until ``/exit`` or the end of the input.

    Args:
        session: An open session with a chat template.
        max_tokens: Per answer.
        sampling: For every answer.

    Raises:
        TokenizerError: The artifact has no chat template.
    """
    console = stderr_console()
    session.render([{"role": "user", "content": "?"}])  # no template: say so before the first question
    _enable_line_editing()
    console.print(f"{session.manifest.name}, {session.engine.kernel}. {_HELP}", style="dim", markup=False)
    messages: list[Message] = []
    while (line := _read_line()) is not None:
        if line == "/exit":
            return
        if line == "/reset":
            messages = []
            console.print("forgotten", style="dim")
        elif line.startswith("/"):
            console.print(f"no command {line}; {_HELP}", markup=False)
        elif line:
            messages = _turn(session, [*messages, {"role": "user", "content": line}], max_tokens, sampling)


def _turn(session: Session, messages: list[Message], max_tokens: int | None, sampling: SamplingConfig) -> list[Message]:
    """Answer the last message; the conversation as it stands after."""
    try:
        generation = session.chat(messages, max_tokens=max_tokens, sampling=sampling)
    except ContextLengthError as error:
        print_error(error)
        stderr_console().print("/reset forgets the conversation; this question was left out", style="dim")
        return messages[:-1]
    _show(generation)
    completion = generation.completion
    stderr_console().print(figures(completion), style="dim", markup=False)
    return [*messages, {"role": "assistant", "content": completion.answer}]


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
