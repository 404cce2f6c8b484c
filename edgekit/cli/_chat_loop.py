"""The conversation that ``edgekit run`` holds without ``--prompt``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence

from ..errors import ContextLengthError, UsageError
from ..runtime.chat import Message
from ..runtime.generation import Generation
from ..runtime.session import Session
from ._output import open_screen, print_error
from ._stream import figures, print_answer, typed_text

_PROMPT = "> "
_HELP = "/reset forgets the conversation, /exit or Ctrl-D quits, Ctrl-C stops an answer"


def chat_loop(session: Session, answer: Callable[[Sequence[Message]], Generation]) -> None:
    """Read and answer lines until ``/exit`` or the end of the input.

    Args:
        session: An open session with a chat template.
        answer: Begins the answer to a conversation.

    Raises:
        TokenizerError: The artifact has no chat template.
    """
    session.render([{"role": "user", "content": "?"}])  # reports a missing template before the first question
    _enable_line_editing()
    _remark(f"{session.manifest.name}, {session.engine.kernel}. {_HELP}")
    messages: list[Message] = []
    while (line := _read_line()) is not None:
        if line == "/exit":
            return
        if line == "/reset":
            messages = []
            _remark("conversation forgotten")
        elif line.startswith("/"):
            open_screen(err=True).say(f"there is no command {line}; {_HELP}")
        elif line:
            messages = _turn(answer, messages, line)


def _turn(answer: Callable[[Sequence[Message]], Generation], messages: list[Message], line: str) -> list[Message]:
    """Answer a line and return the conversation including the answer."""
    try:
        asked: list[Message] = [*messages, {"role": "user", "content": typed_text(line)}]
        generation = answer(asked)
    except (ContextLengthError, UsageError) as error:
        print_error(error)
        _remark("the question was not added to the conversation; /reset forgets the conversation")
        return messages
    try:
        print_answer(generation)
    except KeyboardInterrupt:  # ends the answer, not the program
        generation.stop()
    completion = generation.completion
    _remark(figures(completion))
    return [*asked, {"role": "assistant", "content": completion.answer}]


def _remark(text: str) -> None:
    open_screen(err=True).say((text, "dim"))


def _read_line() -> str | None:
    """The next line, stripped; None at the end of the input."""
    while True:
        try:
            return input(_PROMPT if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            print(file=sys.stderr)  # discards the half-typed line, as shells do


def _enable_line_editing() -> None:
    """Enable arrow keys and history where the platform supports them."""
    if not sys.stdin.isatty():
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (importing it is what enables it)
