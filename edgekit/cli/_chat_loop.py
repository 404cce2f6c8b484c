"""The conversation that ``edgekit run`` holds without ``--prompt``."""

from __future__ import annotations

import contextlib
import io
import locale
import sys
from collections.abc import Callable, Sequence

from ..errors import ContextLengthError, UsageError
from ..runtime.chat import Message
from ..runtime.generation import Generation
from ..runtime.session import Session
from ._output import open_screen, print_error
from ._stream import Thoughts, figures, print_answer, typed_text

_PROMPT = "> "
_HELP = "/reset forgets the conversation, /exit or Ctrl-D quits, Ctrl-C stops an answer"


def chat_loop(session: Session, answer: Callable[[Sequence[Message]], Generation], thoughts: Thoughts = "show") -> None:
    """Read and answer lines until ``/exit`` or the end of the input.

    Args:
        session: An open session with a chat template.
        answer: Begins the answer to a conversation.
        thoughts: How thoughts are shown.

    Raises:
        TokenizerError: The artifact has no chat template.
    """
    session.render([{"role": "user", "content": "?"}])  # reports a missing template before the first question
    _prepare_stdin()
    _remark(f"{session.manifest.name}, {session.engine.kernel}. {_HELP}")
    messages: list[Message] = []
    while (line := _read_line()) is not None:
        if line == b"/exit":
            return
        if line == b"/reset":
            messages = []
            _remark("conversation forgotten")
        elif line.startswith(b"/"):
            open_screen(err=True).say(f"there is no command {line.decode(errors='replace')}; {_HELP}")
        elif line:
            messages = _turn(answer, messages, line, thoughts)


def _turn(
    answer: Callable[[Sequence[Message]], Generation], messages: list[Message], line: bytes, thoughts: Thoughts
) -> list[Message]:
    """Answer a line and return the conversation including the answer."""
    try:
        asked: list[Message] = [*messages, {"role": "user", "content": typed_text(line)}]
        generation = answer(asked)
    except (ContextLengthError, UsageError) as error:
        print_error(error)
        _remark("the question was not added to the conversation; /reset forgets the conversation")
        return messages
    try:
        print_answer(generation, thoughts)
    except KeyboardInterrupt:  # ends the answer, not the program
        generation.stop()
    completion = generation.completion
    _remark(figures(completion))
    # With its thought, an answer keeps the white space that the model wrote behind the thought, as the model knows it.
    content = completion.text if completion.thought_closed else completion.answer
    return [*asked, {"role": "assistant", "content": content}]


def _remark(text: str) -> None:
    open_screen(err=True).say((text, "dim"))


def _read_line() -> bytes | None:
    """The next line, stripped; None at the end of the input."""
    while True:
        try:
            line = input(_PROMPT if sys.stdin.isatty() else "")
            return line.encode("utf-8", errors="surrogateescape").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            print(file=sys.stderr)  # discards the half-typed line, as shells do


def _prepare_stdin() -> None:
    """Read stdin as UTF-8 in any locale, and enable arrow keys and history where the platform supports them.

    Raises:
        UsageError: There is no stdin.
    """
    if sys.stdin is None:  # the command was started with a closed stdin
        raise UsageError("a conversation needs an open stdin", hint="add --prompt TEXT")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # bytes that are not UTF-8 are reported later
    # In a locale without UTF-8, readline would edit single bytes, and in the C locale drop the eighth bit of each.
    if sys.stdin.isatty() and locale.nl_langinfo(locale.CODESET).upper() in ("UTF-8", "UTF8"):
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (importing it is what enables it)
