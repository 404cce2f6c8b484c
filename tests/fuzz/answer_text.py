"""The text of a model, which arrives in pieces: thought and answer, stop texts, blocks of Markdown on a terminal.

The input is a text; its first character says how long the pieces are, and what stands before the first line break stops
the answer.
"""

import io
import random
import re

from fuzz_changes import text_change
from rich.console import Console
from rich.live import Live

from edgekit.cli._live_answer import _Drawing
from edgekit.cli._markdown import MarkdownBlocks
from edgekit.cli._stream import printable
from edgekit.runtime.stop_text import StopText
from edgekit.runtime.thought import ThoughtSplitter, thought_end, without_thought

__all__ = ["change", "read", "seeds"]
_PARTS = (
    "<think>", "</think>", "\n", "\n\n", "```\n", "```python\n", "~~~~\n", "- ", "1. ", "> ", "# ",
    "| a | b |\n|-|-|\n", "**",
    "`", "[a](b)", "![a](b)", "<b>", "&lt;", "    x\n", "\t", "\x1b[2J", "\x1b]0;x\a", "\x9b",
    "\0", "é", "\u202e", "x" * 200,
    "stop", "<thi", "nk>", " " * 50, "\r", "\u2028",
)  # fmt: skip
change = text_change(_PARTS)


def seeds() -> list[bytes]:
    return [
        b"3stop\n<think>\nLet me see.\n</think>\n\n# Title\n\nA **b** `c`.\n\n```python\nx = 1\n```\n- a\n- b\n",
        b"1ab\nstill thinking </think> It is `</think>` that ends it.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n",
        b"9\n\n\n   <think></think>   Done stop.\n1. one\n2. two\n\n   more\n",
    ]


def _pieces(text: str) -> list[str]:
    choose, at, found = random.Random(ord(text[0])), 0, []  # noqa: S311
    while at < len(text):
        length = choose.choice((1, 1, 2, 3, 8, 40, 1000))
        found.append(text[at : at + length])
        at += length
    return found


def read(data: bytes) -> None:
    text = data.decode("utf-8", "replace")[:5000]
    if not text:
        return
    pieces, stop = _pieces(text), text[1:].partition("\n")[0]
    _stops(text, pieces, [stop, "stop"])
    for inside in (False, True):
        splitter = ThoughtSplitter(inside)
        found = [piece for each in pieces for piece in splitter.push(each)] + splitter.flush()
        again = ThoughtSplitter(inside)
        whole = again.push(text) + again.flush()
        for thought in (False, True):
            parts, once = ("".join(p.text for p in some if p.thought == thought) for some in (found, whole))
            assert parts == once, "the pieces make a difference"
        assert all(piece.text for piece in found)
    end = thought_end(text, opened=True)
    assert end is None or 0 <= end <= len(text)
    assert without_thought(text) in text
    blocks = MarkdownBlocks()
    divided = [block for each in pieces for block in blocks.push(each)] + blocks.flush()
    assert re.sub(r"\s", "", "".join(divided)) == re.sub(r"\s", "", text), "a block is missing"
    size = 1 + len(pieces) // 10
    _draw(["".join(pieces[at : at + size]) for at in range(0, len(pieces), size)])


def _stops(text: str, pieces: list[str], texts: list[str]) -> None:
    stop = StopText(texts)
    found = "".join(stop.push(each) for each in pieces) + stop.flush()
    places = [place for each in texts if each and (place := text.find(each)) >= 0]
    if stop.found:  # the pieces may show a later one first
        assert text.startswith(found)
        assert any(text.startswith(each, len(found)) for each in texts if each)
    else:
        assert not places
        assert found == text


def _draw(pieces: list[str]) -> None:
    """Draw the answer; nothing in it may control the terminal."""
    screen = io.StringIO()
    console = Console(file=screen, width=40, height=10, force_terminal=True, color_system="standard")
    with Live(console=console, auto_refresh=False, transient=True) as live:
        drawing = _Drawing(live, "show")
        for number, piece in enumerate(pieces):
            drawing.add(printable(piece), thought=number < 3)
            drawing.refresh(number)
        drawing.end()
    left = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\]8;[^\x1b]*\x1b\\", "", screen.getvalue())
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", left), "a control character"
