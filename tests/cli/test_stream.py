"""How an answer is written: whole characters, thoughts apart from the answer, no control characters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli._stream import print_answer
from edgekit.runtime.thought import Piece


def test_every_write_is_whole_characters(
    tiny_artifact: Path, scripted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted("Größe 🙂👍🏽 你好, привет")
    writes: list[bytes] = []

    def echo(text: Any, nl: bool = True, err: bool = False, color: bool | None = None) -> None:
        if not err:
            assert not nl
            writes.append(text)

    monkeypatch.setattr("edgekit.cli._stream.click.echo", echo)
    monkeypatch.setattr(sys, "argv", ["edgekit", "run", str(tiny_artifact), "--prompt", "x"])
    from edgekit.cli import main

    main()
    assert len(writes) > 10
    assert "".join(write.decode("utf-8") for write in writes) == "Größe 🙂👍🏽 你好, привет\n"


def test_a_thought_is_dimmed_on_a_terminal_and_control_characters_are_dropped(
    on_terminal: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    on_terminal()

    def show() -> str:
        print_answer([Piece("hm\x1b]0;title\x07", thought=True), Piece("Paris\n\tis\x9b2J it")])
        return capfdbinary.readouterr().out.decode()

    assert show() == "\x1b[2mhm]0;title\x1b[0m\n\nParis\n\tis2J it\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in show()


def test_a_thought_that_never_ends_is_closed(
    on_terminal: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    on_terminal()
    print_answer([Piece("hm", thought=True)])
    assert capfdbinary.readouterr().out == b"\x1b[2mhm\x1b[0m\n"
