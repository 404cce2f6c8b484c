"""Reads the questions of a conversation: from a terminal with editing and history, otherwise line by line."""

from __future__ import annotations

import io
import locale
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import UsageError
from ..host import base_folder

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

_PROMPT = "> "


class Reader(Protocol):
    """Where questions come from."""

    def read(self) -> bytes | None:
        """The next question, stripped; None at the end of the input.

        The bytes are UTF-8 unless something else was typed or piped.
        """


def open_reader(commands: Mapping[str, str]) -> Reader:
    """A reader of stdin.

    Args:
        commands: What each command such as ``/help`` does, for completion.

    Raises:
        UsageError: There is no stdin.
    """
    if sys.stdin is None:  # the command was started with a closed stdin
        raise UsageError("a conversation needs an open stdin", hint="add --prompt TEXT")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # bytes that are not UTF-8 are reported later
    # In a locale without UTF-8, readline would edit single bytes, and in the C locale drop the eighth bit of each.
    if sys.stdin.isatty() and locale.nl_langinfo(locale.CODESET).upper() in ("UTF-8", "UTF8"):
        if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and can_edit():
            return TerminalReader(commands)
        with suppress(ImportError):
            import readline  # noqa: F401  (importing it is what enables it)
    return LineReader()


def can_edit() -> bool:
    """Whether prompt_toolkit is installed, which :class:`TerminalReader` needs."""
    return find_spec("prompt_toolkit") is not None


class LineReader:
    """Each line of stdin is a question."""

    def read(self) -> bytes | None:
        """As for :class:`Reader`."""
        while True:
            try:
                line = self._line()
                return line.encode("utf-8", errors="surrogateescape").strip()
            except EOFError:
                return None
            except KeyboardInterrupt:
                print(file=sys.stderr)  # discards the half-typed line, as shells do

    def _line(self) -> str:
        """The next line. The prompt goes to the terminal, also where the answers go to a file."""
        if not sys.stdin.isatty() or sys.stdout.isatty():
            return input(_PROMPT if sys.stdin.isatty() else "")
        sys.stderr.write(_PROMPT)
        sys.stderr.flush()
        return input()


class TerminalReader:
    """Edits questions on a terminal: history, completion of commands, several lines, and pasted text as one question.

    Args:
        commands: As for :func:`open_reader`.
        source, target: The terminal; by default that of the process.
    """

    def __init__(self, commands: Mapping[str, str], source: Input | None = None, target: Output | None = None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

        bindings = KeyBindings()

        @bindings.add("enter")
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.document.current_line_before_cursor.endswith("\\"):
                buffer.delete_before_cursor()
                buffer.newline(copy_margin=False)
            else:
                buffer.validate_and_handle()

        @bindings.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.newline(copy_margin=False)

        self._session: PromptSession[str] = PromptSession(
            _PROMPT,
            multiline=True,
            prompt_continuation="  ",
            key_bindings=bindings,
            completer=WordCompleter(list(commands), meta_dict=dict(commands), sentence=True),
            complete_while_typing=False,
            history=_history(),
            enable_history_search=True,
            input=source,
            output=target,
        )

    def read(self) -> bytes | None:
        """As for :class:`Reader`."""
        while True:
            try:
                return self._session.prompt().encode("utf-8", errors="surrogateescape").strip()
            except EOFError:
                return None
            except KeyboardInterrupt:
                continue  # discards the half-typed question, as shells do


def history_file() -> Path:
    """Where earlier questions are kept: ``$XDG_STATE_HOME/edgekit/history``, by default in ``~/.local/state``."""
    return base_folder("XDG_STATE_HOME", ".local/state") / "edgekit" / "history"


def _history() -> History:
    """The history in a file that only this user can read; in memory where it cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        path = history_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return InMemoryHistory()

    class KeptHistory(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):  # a full disk must not end the conversation
                super().store_string(string)

        def load_history_strings(self) -> Iterable[str]:
            try:
                return list(super().load_history_strings())
            except OSError:
                return []

    return KeptHistory(path)
