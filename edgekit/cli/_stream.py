"""Text in and out of ``edgekit run``: UTF-8 whatever the locale, whole characters, a thought dimmed or tagged."""

from __future__ import annotations

import re
import sys

import click

from ..errors import UsageError
from ..runtime.generation import Completion
from ..runtime.thought import THINK_CLOSE, THINK_OPEN, Piece
from ..units import format_rate, format_seconds
from ._output import uses_colour

_DIM, _RESET = "\x1b[2m", "\x1b[0m"
# Control characters but tab and newline: a model must not move the cursor or retitle the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def typed_text(text: str) -> str:
    """What a person typed, as UTF-8, also where the locale says otherwise.

    Python hands bytes that the locale cannot decode through as surrogates; they still are the bytes that were typed.

    Raises:
        UsageError: They are no UTF-8 either.
    """
    try:
        return text.encode("utf-8", errors="surrogateescape").decode("utf-8")
    except UnicodeError as error:
        raise UsageError(f"the prompt is not UTF-8: {error}") from None


class AnswerPrinter:
    """Writes the pieces of one answer to stdout.

    On a terminal a thought is dimmed (unless ``NO_COLOR`` is set: then tagged) and control characters are left out.
    Into a file or pipe everything goes as the model wrote it, with the thought between ``<think>`` tags.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._dim = uses_colour()
        self._thinking = False
        self._last = ""

    def show(self, piece: Piece) -> None:
        """Write a piece at once."""
        if piece.thought != self._thinking:
            self._switch(piece.thought)
        self._write(_CONTROL.sub("", piece.text) if self._terminal else piece.text)

    def end(self) -> None:
        """Close an open thought and the last line."""
        if self._thinking:
            self._switch(False, gap="")
        if self._last != "\n":
            self._write("\n")

    def _switch(self, thinking: bool, gap: str = "\n\n") -> None:
        self._thinking = thinking
        if thinking:
            self._write(_DIM if self._dim else f"{THINK_OPEN}\n")
        else:
            self._write((_RESET if self._dim else f"\n{THINK_CLOSE}") + gap)

    def _write(self, text: str) -> None:
        # Bytes, so that the answer is UTF-8 whatever the locale; echo flushes them.
        click.echo(text.encode("utf-8"), nl=False)
        self._last = text[-1:] or self._last


def figures(completion: Completion) -> str:
    """One line on how an answer came about."""
    parts = [f"{len(completion.prompt_tokens)} + {len(completion.tokens)} tokens"]
    parts.append(f"first token {format_seconds(completion.ttft_s)}")
    if completion.decode_tok_s is not None:
        parts.append(format_rate(completion.decode_tok_s, "tok"))
    ended = {
        "length": "ended by --max-tokens",
        "context": "ended by the full context",
        "interrupted": "interrupted",
    }
    if completion.finish_reason in ended:
        parts.append(ended[completion.finish_reason])
    return ", ".join(parts)
