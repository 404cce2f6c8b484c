"""The commands of a conversation, and what they refuse."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekit
from edgekit.cli._conversation import COMMANDS, Conversation
from edgekit.errors import UsageError
from edgekit.runtime.generation import Completion

DONE = Completion("Paris.", "", "Paris.", [1, 2], [3], "stop", 0.1, 10.0)


@pytest.fixture
def conversation(artifact: Path) -> Iterator[Conversation]:
    with edgekit.load(artifact) as session:
        yield Conversation(session)


def run(conversation: Conversation, line: str) -> str:
    name, _, rest = line.partition(" ")
    return COMMANDS[name].run(conversation, rest)


def test_thoughts_are_shown_and_limited(reasoning_artifact: Path) -> None:
    with edgekit.load(reasoning_artifact) as session:
        conversation = Conversation(session)
        assert run(conversation, "/think fold") == "thoughts are folded to one line"
        assert run(conversation, "/think 50") == "thoughts are closed after 50 tokens"
        assert (conversation.thoughts, conversation.think_tokens) == ("fold", 50)
        run(conversation, "/think free")
        assert conversation.think_tokens is None


def test_a_conversation_is_saved_and_loaded(conversation: Conversation, tmp_path: Path) -> None:
    conversation.add("What is it?", DONE)
    run(conversation, "/system Be brief.")
    run(conversation, f"/save {tmp_path / 'a.json'}")
    other = Conversation(conversation.session)
    said = run(other, f"/load {tmp_path / 'a.json'}")
    assert said == f"1 turn loaded from {tmp_path / 'a.json'}"
    assert other.prompt("And?") == conversation.prompt("And?")
    assert [message["role"] for message in other.prompt("And?")] == ["system", "user", "assistant", "user"]
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    (tmp_path / "b.json").write_text(json.dumps(saved | {"model": "another"}), encoding="utf-8")
    assert run(other, f"/load {tmp_path / 'b.json'}").endswith(", which were held with another")


def test_a_conversation_on_a_full_disk_leaves_no_file(
    conversation: Conversation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        run(conversation, f"/save {tmp_path / 'a.json'}")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    run(conversation, f"/save {tmp_path / 'a.json'}")
    with pytest.raises(UsageError, match=r"a\.json exists; choose another name"):
        run(conversation, f"/save {tmp_path / 'a.json'}")


def test_a_question_is_taken_back(conversation: Conversation) -> None:
    assert conversation.take_back() is None
    conversation.add("What is it?", DONE)
    assert conversation.take_back() == "What is it?"
    assert conversation.messages == []


def test_an_answer_is_copied_by_the_terminal(
    conversation: Conversation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="no answer to copy"):
        run(conversation, "/copy")
    conversation.add("What is it?", DONE)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    run(conversation, "/copy")
    assert capsys.readouterr().out == "\x1b]52;c;UGFyaXMu\a"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/think", "/think needs an argument; allowed: show, fold, hide, free, or a number of tokens"),
        ("/think loud", "/think loud is not known"),
        ("/think 0", "/think 0 is not known"),
        ("/think " + "9" * 5000, "is not known; allowed"),
        ("/think 5", "does not think before it answers"),
        ("/save", "/save needs a file name"),
        ("/load", "/load needs a file name"),
        ("/save /no/such/folder/file", "cannot be written"),
        ("/save a\0b", "cannot be written"),
    ],
)
def test_arguments_are_checked(conversation: Conversation, line: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("|", r"\|")):
        run(conversation, line)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "object"),
        ("{", "JSON"),
        (json.dumps({"format": "other"}), "not a conversation that /save has written"),
        (
            json.dumps({"format": "edgekit.conversation/1", "messages": [{"role": "user", "content": "a"}]}),
            "has 1 messages; the last question has no answer",
        ),
        (
            json.dumps({"format": "edgekit.conversation/1", "messages": [{"role": "assistant", "content": "x"}]}),
            "message 1 of .* is not a text of the user",
        ),
    ],
)
def test_other_files_are_not_loaded(conversation: Conversation, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        run(conversation, f"/load {path}")
    with pytest.raises(UsageError):
        run(conversation, f"/load {tmp_path / 'missing'}")
