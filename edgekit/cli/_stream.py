"""Text in and out of ``edgekit run``: UTF-8 in any locale, and a model's thought dimmed or tagged."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import click

from ..errors import UsageError
from ..runtime.thought import THINK_CLOSE, THINK_OPEN, Piece
from ..units import format_rate, format_seconds
from ._output import open_screen

if TYPE_CHECKING:
    from ..runtime.generation import Completion

Thoughts = Literal["show", "fold", "hide"]  # how the thought of an answer is written
_DIM, _RESET, _ERASE_LINE = "\x1b[2m", "\x1b[0m", "\r\x1b[K"
# All control characters except tab and newline: a model must not move the cursor or change the terminal's title.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def typed_text(text: str | bytes) -> str:
    """Decode what a person typed as UTF-8, even where the locale has another encoding.

    Args:
        text: Bytes; or an argument of the command line. Python has decoded arguments with the locale's encoding, which
            may be Latin-1 on a device whose terminal sends UTF-8, and passes bytes that this encoding does not have as
            surrogates. So the argument's own bytes are restored first.

    Raises:
        UsageError: The bytes are not UTF-8.
    """
    try:
        return (text if isinstance(text, bytes) else os.fsencode(text)).decode("utf-8")
    except UnicodeError as error:
        raise UsageError(
            f"the prompt is not UTF-8: {error}",
            hint="set the terminal to UTF-8, or convert the text: iconv -f LATIN1 -t UTF-8",
        ) from None


def piped_text() -> str:
    """The whole of stdin as UTF-8, without the byte-order mark that some editors write.

    Raises:
        UsageError: There is no stdin, it cannot be read, or it is not UTF-8.
    """
    if sys.stdin is None:  # the command was started with a closed stdin
        raise UsageError("the prompt cannot be read: stdin is closed")
    try:
        return typed_text(sys.stdin.buffer.read()).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    except OSError as error:  # stdin is a folder
        raise UsageError(f"the prompt cannot be read from stdin: {error.strerror}") from None


def printable(text: str) -> str:
    """A text without control characters except tab and newline, so that it cannot control the terminal."""
    return _CONTROL.sub("", text)


def visible(text: str) -> str:
    """A text whose control characters, except tab and newline, are written as escapes, such as in names of files."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def print_answer(pieces: Iterable[Piece], thoughts: Thoughts = "show") -> None:
    """Write the pieces of one answer to stdout, each as soon as it arrives.

    On a terminal the thought is dimmed and control characters are removed. In a file or pipe, or when ``NO_COLOR`` is
    set, the thought stands between ``<think>`` tags; a file or pipe receives every character the model wrote.

    Args:
        pieces: The pieces.
        thoughts: ``fold`` writes one line about the thought on a terminal, and nothing elsewhere; ``hide`` writes
            nothing.
    """
    writer = _AnswerWriter(thoughts)
    try:
        for piece in pieces:
            writer.write(piece)
    finally:
        writer.end()


class _AnswerWriter:
    """Writes one answer; see :func:`print_answer`."""

    def __init__(self, thoughts: Thoughts) -> None:
        self._terminal = sys.stdout.isatty()
        self._dim = self._terminal and open_screen().color_system is not None
        self._thoughts: Thoughts = "hide" if thoughts == "fold" and not self._terminal else thoughts
        self._thinking, self._last, self._started = False, "", 0.0

    def write(self, piece: Piece) -> None:
        if piece.thought and not self._thinking:
            self._open()
        if not piece.thought and self._thinking:
            self._close("\n\n")
        if not piece.thought or self._thoughts == "show":
            self._put(printable(piece.text) if self._terminal else piece.text)

    def end(self) -> None:
        if self._thinking:
            self._close("")
        if self._last != "\n":
            self._put("\n")

    def _open(self) -> None:
        self._thinking, self._started = True, time.monotonic()
        if self._thoughts == "show":
            self._put(_DIM if self._dim else f"{THINK_OPEN}\n")
        elif self._thoughts == "fold":
            self._put(f"{_DIM}Thinking ...{_RESET}" if self._dim else "Thinking ...")

    def _close(self, gap: str) -> None:
        self._thinking = False
        if self._thoughts == "show":
            self._put((_RESET if self._dim else f"\n{THINK_CLOSE}") + gap)
        elif self._thoughts == "fold":
            took = format_seconds(time.monotonic() - self._started)
            line = f"{_ERASE_LINE}{_DIM}Thought for {took}{_RESET}" if self._dim else f" for {took}"
            self._put(line + gap)

    def _put(self, text: str) -> None:
        click.echo(text.encode("utf-8"), nl=False)  # bytes, so that the answer is UTF-8 in any locale; echo flushes
        self._last = text[-1:] or self._last


def figures(completion: Completion) -> str:
    """One line with the token counts, the speed and why the answer ended."""
    parts = [f"{len(completion.prompt_tokens)} prompt + {len(completion.tokens)} generated tokens"]
    parts.append(f"first token {format_seconds(completion.ttft_s)}")
    if completion.decode_tok_s is not None:
        parts.append(format_rate(completion.decode_tok_s, "tok"))
    if completion.accepted_tokens:
        parts.append(f"{completion.accepted_tokens} guessed")
    ended = {
        "length": "stopped by --max-tokens",
        "context": "stopped because the context is full",
        "interrupted": "interrupted",
        "loop": "stopped because it repeated itself (--loop-guard)",
    }
    if completion.thought_closed == "budget":
        parts.append(f"thought closed after {completion.thought_tokens} tokens (--think-tokens)")
    if completion.thought_closed == "loop":
        parts.append("thought closed because it repeated itself (--loop-guard)")
    if completion.finish_reason in ended:
        parts.append(ended[completion.finish_reason])
    return ", ".join(parts)
