"""The conversation: it remembers, resets and ends, and survives an interrupted answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from invoke import Invoke
from numpy.typing import NDArray
from tiny_artifact import write_tiny_artifact

from edgekit.runtime.ort_engine import OrtEngine


def test_a_conversation_remembers_resets_and_ends(
    invoke: Invoke, tiny_artifact: Path, scripted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted("Paris.")
    conversations: list[list[str]] = []
    from edgekit.runtime.session import Session

    chat = Session.chat
    monkeypatch.setattr(
        Session,
        "chat",
        lambda self, messages, **options: (
            conversations.append([m["content"] for m in messages]) or chat(self, messages, **options)
        ),
    )
    outcome = invoke("run", tiny_artifact, stdin=b"one\n\ntwo\n/what\n/reset\nthree\n/exit\nfour\n")
    assert outcome.exit_code == 0
    assert conversations == [["one"], ["one", "Paris.", "two"], ["three"]]
    assert outcome.text == "Paris.\n" * 3
    assert "there is no command /what" in outcome.stderr
    assert invoke("run", tiny_artifact, stdin=b"one").exit_code == 0  # the input's end ends it as well


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


def test_a_conversation_needs_a_chat_template(invoke: Invoke, tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    (folder / "chat_template.jinja").unlink()
    outcome = invoke("run", folder, stdin=b"one\n")
    assert outcome.exit_code == 36
    assert "has no chat template" in outcome.stderr
