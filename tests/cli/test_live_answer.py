"""Answers drawn on a terminal while they are generated."""

from __future__ import annotations

import io
import os
import pty
import sys
import termios
from collections.abc import Iterator
from typing import cast

import pytest
from rich.console import Console
from rich.text import Text

from edgekit.cli import _live_answer
from edgekit.cli._live_answer import draw_answer, quiet_keys
from edgekit.cli._stream import Thoughts
from edgekit.runtime.generation import Generation
from edgekit.runtime.thought import Piece

PIECES = [
    Piece("Let me\nsee.", True),
    Piece(" Yes.\x1b[2J", True),
    Piece("Some **bold** text\n\n"),
    Piece("```python\nprint(1)"),
    Piece("\n```\n1. one\n2. two"),
]


class Answer(Iterator[Piece]):
    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces, self.token_count = list(pieces), 0

    def __next__(self) -> Piece:
        if not self.pieces:
            raise StopIteration
        self.token_count += 1
        return self.pieces.pop(0)


def drawn(thoughts: Thoughts, monkeypatch: pytest.MonkeyPatch, interval: float = 0.0) -> str:
    """What stays on a screen of 60 columns, without the parts that are drawn over."""
    monkeypatch.setattr(_live_answer, "_INTERVAL_S", interval)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=60, height=12, color_system="standard", legacy_windows=False)
    draw_answer(cast("Generation", Answer(PIECES)), thoughts, console)
    return out.getvalue()


def test_markdown_is_drawn_and_the_thought_dimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn("show", monkeypatch, interval=1000.0)
    assert "\x1b[2mLet me\x1b[0m" in text
    assert "\x1b[2msee. Yes.[2J\x1b[0m" in text  # without the control character
    assert "Some \x1b[1mbold\x1b[0m text" in text
    assert "```" not in text
    assert text.index("print") < text.index("one") < text.index("two")


def test_a_thought_is_folded_or_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = drawn("fold", monkeypatch)
    assert "Thought for" in folded
    assert "thinking for" in folded
    assert "Let me" not in folded
    hidden = drawn("hide", monkeypatch)
    assert "Thought for" not in hidden
    assert "Let me" not in hidden
    assert "bold" in hidden


def test_the_unfinished_text_and_the_speed_are_shown_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn("hide", monkeypatch)
    assert "Some **bold** text" in text  # until it is known that no list goes on
    assert "```python" in text
    assert "4 tokens, " in text
    assert "tok/s" in text


def test_keys_are_kept_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "r", closefd=False) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            before = termios.tcgetattr(theirs)
            with quiet_keys():
                os.write(ours, b"next")
                assert not termios.tcgetattr(theirs)[3] & (termios.ECHO | termios.ICANON)
                assert termios.tcgetattr(theirs)[3] & termios.ISIG
            assert termios.tcgetattr(theirs) == before
            os.write(ours, b"\n")
            typed = b""
            while not typed.endswith(b"\n"):  # in one piece or two
                typed += os.read(theirs, 10)
            assert typed == b"next\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_without_a_terminal_keys_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[object] = []
    monkeypatch.setattr(termios, "tcsetattr", lambda *arguments: changed.append(arguments))
    with open(os.devnull) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with quiet_keys():
            pass
    assert changed == []


def test_the_end_of_a_text_fills_the_screen() -> None:
    console = Console(width=20, height=6)
    for text in ("", "a", "\n", "one two three four five\n" * 50, "\n" * 30, "x " * 9, "word\n" + "a b " * 40):
        end = _live_answer._end(text, 5, 20)
        assert text.endswith(end)
        shown = Text(end).wrap(console, 20)[-5:]
        assert [line.plain for line in shown] == [line.plain for line in Text(text).wrap(console, 20)[-5:]]
    paragraph = "word " * 10_000
    ends = [_live_answer._end(paragraph[:length], 5, 20) for length in range(20_000, 20_300)]
    assert all(100 <= len(end) < 200 for end in ends)
