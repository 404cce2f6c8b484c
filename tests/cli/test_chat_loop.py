"""The conversation: it remembers, resets and ends, and survives an interrupted answer."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invoke import Invoke
from numpy.typing import NDArray
from tiny_artifact import rewrite_manifest, write_tiny_artifact

from edgekit.cli._chat_input import LineReader
from edgekit.runtime.chat import Message
from edgekit.runtime.generation import Generation
from edgekit.runtime.ort_engine import OrtEngine
from edgekit.runtime.prefix_cache import PrefixCache
from edgekit.runtime.session import Session


def test_a_conversation_remembers_resets_and_ends(
    invoke: Invoke, tiny_artifact: Path, scripted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted("Paris.")
    conversations: list[list[str]] = []
    chat = Session.chat
    monkeypatch.setattr(
        Session,
        "chat",
        lambda self, messages, **options: (
            conversations.append([m["content"] for m in messages]) or chat(self, messages, **options)
        ),
    )
    typed = "one\n\n\u00a0\n\u2003two\u3000\n/what\n/reset\nthree\n/exit\nfour\n"
    outcome = invoke("run", tiny_artifact, stdin=typed.encode("utf-8"))
    assert outcome.exit_code == 0
    assert conversations == [["one"], ["one", "Paris.", "two"], ["three"]]
    assert outcome.text == "Paris.\n" * 3
    assert "there is no command /what" in outcome.stderr
    assert invoke("run", tiny_artifact, stdin=b"one").exit_code == 0  # the input's end ends it as well


@pytest.mark.parametrize("prepare", [True, False])
def test_the_next_turn_is_prepared_while_the_answer_is_read(
    invoke: Invoke,
    reasoning_artifact: Path,
    scripted: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    prepare: bool,
) -> None:
    scripted("Let me see.\n</think>\n\nParis.")
    prepared: list[list[int]] = []
    monkeypatch.setattr(PrefixCache, "prepare", lambda self, start, go_on: prepared.append(start))
    read = LineReader.read

    def wait_and_read(self: LineReader) -> bytes | None:
        for thread in threading.enumerate():
            if thread.name == "edgekit-prepare":
                thread.join()
        return read(self)

    monkeypatch.setattr(LineReader, "read", wait_and_read)
    arguments = [] if prepare else ["--no-prepare"]
    assert invoke("run", reasoning_artifact, *arguments, stdin=b"one\ntwo\n").exit_code == 0
    assert len(prepared) == (2 if prepare else 0)
    prepared.clear()
    assert invoke("run", reasoning_artifact, "--prompt", "one").exit_code == 0
    assert prepared == [], "there is no next turn"


def test_a_question_too_long_for_the_context_does_not_end_the_conversation(
    invoke: Invoke, tiny_artifact: Path, scripted: Callable[[str], None]
) -> None:
    scripted("Paris.")
    outcome = invoke("run", tiny_artifact, stdin=b"word " * 2000 + b"\nshort\n")
    assert outcome.exit_code == 0
    assert "the context holds" in outcome.stderr
    assert outcome.text == "Paris.\n"


def test_ctrl_c_ends_the_answer_and_not_the_conversation(
    invoke: Invoke, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, scripted: Callable[[str], None]
) -> None:
    scripted("Paris.")
    evaluate = OrtEngine.evaluate
    calls = {"count": 0}

    def interrupted(self: OrtEngine, ids: Sequence[int]) -> NDArray[np.float32]:
        calls["count"] += 1
        if calls["count"] == 3:
            raise KeyboardInterrupt
        return evaluate(self, ids)

    monkeypatch.setattr(OrtEngine, "evaluate", interrupted)
    outcome = invoke("run", tiny_artifact, stdin=b"one\ntwo\n")
    assert outcome.exit_code == 0
    assert outcome.stderr.count("interrupted") == 1
    first, second = outcome.text.splitlines()
    assert "Paris.".startswith(first)
    assert first + second == "Paris."


def test_commands_change_the_conversation(
    invoke: Invoke,
    tiny_artifact: Path,
    scripted: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    scripted("Paris.")
    asked: list[list[tuple[str, str]]] = []
    chat = Session.chat

    def record(self: Session, messages: Sequence[Message], **options: Any) -> Generation:
        asked.append([(m["role"], m["content"]) for m in messages])
        return chat(self, messages, **options)

    monkeypatch.setattr(Session, "chat", record)
    saved = tmp_path / "talk.json"
    lines = ["/retry", "one", "/retry", f"/save {saved}", f"/save {saved}", "/system Be brief.", "two"]
    lines += ["/reset", "/stats", "/copy", f"/load {saved}", "three", "/copy", "/help"]
    outcome = invoke("run", tiny_artifact, stdin="\n".join(lines).encode())
    assert outcome.exit_code == 0
    one, answer = ("user", "one"), ("assistant", "Paris.")
    assert asked == [
        [one],
        [one],
        [("system", "Be brief."), one, answer, ("user", "two")],
        [one, answer, ("user", "three")],
    ]
    for said in (
        "there is no question to answer again", "1 turn saved", "exists; choose another name", "0 turns",
        "there is no answer to copy", "1 turn loaded", "/copy needs a terminal", "/think show|fold|hide|free|N",
    ):  # fmt: skip
        assert said in outcome.stderr


def test_a_full_context_leaves_out_the_oldest_turns_and_says_so(
    invoke: Invoke, tiny_artifact: Path, scripted: Callable[[str], None]
) -> None:
    scripted("Paris.")
    outcome = invoke("run", tiny_artifact, "--context", "120", stdin=b"What is the capital of France now?\n" * 6)
    assert outcome.exit_code == 0
    assert outcome.text == "Paris.\n" * 6
    assert "messages were left out of the conversation" in outcome.stderr


def test_a_template_that_refuses_a_system_prompt_does_not_end_the_conversation(
    invoke: Invoke,
    tiny_artifact: Path,
    tmp_path: Path,
    scripted: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted("Paris.")
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    template = folder / "chat_template.jinja"
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    rewrite_manifest(folder)
    asked: list[list[str]] = []
    chat = Session.chat

    def record(self: Session, messages: Sequence[Message], **options: Any) -> Generation:
        asked.append([m["content"] for m in messages])
        return chat(self, messages, **options)

    monkeypatch.setattr(Session, "chat", record)
    outcome = invoke("run", folder, stdin=b"one\n/system Be brief.\ntwo\n/retry\n/system\nthree\n")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stderr.count("System role not supported") == 2
    assert "/system without a text returns to the model's own system prompt" in outcome.stderr
    assert asked == [["one"], ["Be brief.", "one", "Paris.", "two"], ["Be brief.", "one"], ["one", "Paris.", "three"]]


def test_a_conversation_needs_a_chat_template(invoke: Invoke, tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    (folder / "chat_template.jinja").unlink()
    outcome = invoke("run", folder, stdin=b"one\n")
    assert outcome.exit_code == 36
    assert "has no chat template" in outcome.stderr
