"""Questions typed on a terminal: several lines, pasted text, completion and history."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from edgekit.cli import _chat_input as module
from edgekit.cli._chat_input import LineReader, TerminalReader, history_file, open_reader
from edgekit.cli._conversation import help_text

COMMANDS = {"/help": "list the commands", "/think": "thoughts"}


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PipeInput]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with create_pipe_input() as found:
        yield found


def reader(typed: PipeInput) -> TerminalReader:
    return TerminalReader(COMMANDS, typed, DummyOutput())


def test_pasted_lines_are_one_question(typed: PipeInput) -> None:
    typed.send_text("\x1b[200~one\ntwo\r\nthree\x1b[201~ four\r")
    assert reader(typed).read() == b"one\ntwo\nthree four"


def test_a_question_may_have_several_lines(typed: PipeInput) -> None:
    typed.send_text("one\\\rtwo\x1b\rthree\r")
    assert reader(typed).read() == b"one\ntwo\nthree"


def test_ctrl_c_discards_a_question_and_ctrl_d_ends(typed: PipeInput) -> None:
    typed.send_text("half\x03 whole \u00e9\r\x04")
    found = reader(typed)
    assert found.read() == "whole \u00e9".encode()
    assert found.read() is None


def test_commands_are_completed(typed: PipeInput) -> None:
    completer = reader(typed)._session.completer
    assert completer is not None
    for text, expected in (("/th", ["/think"]), ("/", ["/help", "/think"]), ("think", [])):
        found = completer.get_completions(Document(text), CompleteEvent())
        assert [completion.text for completion in found] == expected


def test_earlier_questions_are_kept_for_this_user_alone(typed: PipeInput) -> None:
    typed.send_text("first\r")
    assert reader(typed).read() == b"first"
    assert stat.S_IMODE(history_file().stat().st_mode) == 0o600
    typed.send_text("\x1b[A\r")
    assert reader(typed).read() == b"first"


def test_a_history_that_cannot_be_written_is_kept_in_memory(
    typed: PipeInput, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    typed.send_text("first\r")
    found = reader(typed)
    assert found.read() == b"first"
    typed.send_text("\x1b[A\r")
    assert found.read() == b"first"


def test_a_terminal_without_prompt_toolkit_gets_a_plain_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module.locale, "nl_langinfo", lambda item: "UTF-8")
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert isinstance(open_reader(COMMANDS), TerminalReader)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert isinstance(open_reader(COMMANDS), LineReader)
    assert "edgekit-llm[chat]" in help_text()


@pytest.mark.parametrize("terminal", ["dumb", "xterm"])
def test_without_a_terminal_each_line_is_a_question(monkeypatch: pytest.MonkeyPatch, terminal: str) -> None:
    monkeypatch.setenv("TERM", terminal)
    assert isinstance(open_reader(COMMANDS), LineReader)  # pytest's stdin is no terminal
