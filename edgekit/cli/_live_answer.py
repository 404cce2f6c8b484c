"""Draws an answer on a terminal while it is generated: Markdown by block, the thought dimmed, and the speed below."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from ..units import format_rate, format_seconds
from ._markdown import MarkdownBlocks
from ._stream import Thoughts, printable

if TYPE_CHECKING:
    from ..runtime.generation import Generation

_INTERVAL_S = 0.08  # between two drawings
_ROOM = 3  # lines of the screen that the unfinished block leaves free


def draw_answer(generation: Generation, thoughts: Thoughts, console: Console) -> None:
    """Write one answer to a terminal as it arrives.

    A block of Markdown is drawn when it is finished; until then its text is shown as the model writes it.

    Args:
        generation: The answer.
        thoughts: ``fold`` shows one line instead of the thought; ``hide`` shows nothing of it.
        console: On stdout, with colours.
    """
    with Live(console=console, auto_refresh=False, transient=True) as live:
        drawing = _Drawing(live, thoughts)
        try:
            for piece in generation:
                drawing.add(printable(piece.text), piece.thought)
                drawing.refresh(generation.token_count)
        finally:
            drawing.end()


@contextmanager
def quiet_keys() -> Iterator[None]:
    """Keep what is typed during the block for the next question, without showing it. Ctrl-C still interrupts."""
    import termios

    stdin = sys.stdin.fileno()
    try:
        before, quiet = termios.tcgetattr(stdin), termios.tcgetattr(stdin)
    except termios.error:  # it is no terminal
        yield
        return
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    quiet[3] |= termios.NOFLSH  # Ctrl-C would discard what was typed
    termios.tcsetattr(stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


class _Drawing:
    """What is on the screen: finished blocks above, and the live part below them."""

    def __init__(self, live: Live, thoughts: Thoughts) -> None:
        self._live, self._console, self._thoughts = live, live.console, thoughts
        self._blocks, self._thought = MarkdownBlocks(), ""
        self._thinking = False
        self._began = self._drawn = time.monotonic()
        self._first: float | None = None  # when the first token arrived

    def add(self, text: str, thought: bool) -> None:
        if thought and not self._thinking:
            self._thinking, self._began = True, time.monotonic()
        if not thought and self._thinking:
            self._end_thought()
        if not thought:
            for block in self._blocks.push(text):
                self._put(Markdown(block), gap=True)
        elif self._thoughts == "show":
            *lines, self._thought = (self._thought + text).split("\n")
            for line in lines:
                self._put(Text(line, style="dim"))

    def refresh(self, tokens: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        if now - self._drawn < _INTERVAL_S:
            return
        self._drawn = now
        speed = format_rate((tokens - 1) / (now - self._first), "tok") if tokens > 1 and now > self._first else ""
        self._live.update(Group(*self._unfinished(), Text(self._status(tokens, speed, now), style="dim")), refresh=True)

    def end(self) -> None:
        if self._thinking:
            self._end_thought()
        for block in self._blocks.flush():
            self._put(Markdown(block))
        self._live.update(Text(""), refresh=True)

    def _status(self, tokens: int, speed: str, now: float) -> str:
        doing = f"thinking for {format_seconds(now - self._began)}, " if self._thinking else ""
        return f"{doing}{tokens} tokens{', ' + speed if speed else ''}"

    def _unfinished(self) -> list[RenderableType]:
        text = self._thought if self._thinking and self._thoughts == "show" else self._blocks.rest
        room, width = max(1, self._console.height - _ROOM), self._console.width
        lines = Text(_end(text, room, width), style="dim" if self._thinking else "").wrap(self._console, width)
        return list(lines[-room:])

    def _end_thought(self) -> None:
        self._thinking = False
        if self._thoughts == "show":
            self._put(Text(self._thought, style="dim"), gap=True)
        elif self._thoughts == "fold":
            self._put(Text(f"Thought for {format_seconds(time.monotonic() - self._began)}", style="dim"), gap=True)
        self._thought = ""

    def _put(self, part: RenderableType, gap: bool = False) -> None:
        self._console.print(part)
        if gap:
            self._console.print()


def _end(text: str, lines: int, width: int) -> str:
    """The end of a text that fills this many lines of a screen, because wrapping a long text takes long."""
    start = len(text)
    for _ in range(lines):
        start = text.rfind("\n", 0, start)
        if start < 0:
            break
    screen = lines * width
    # A line that is longer than the screen is cut at multiples of its size, so that its words rarely move.
    return text[max(start + 1, (len(text) - screen) // screen * screen) :]
