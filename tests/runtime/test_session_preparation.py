"""Sessions: the next turn is prepared while an answer is read."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scripted_engine import GREEDY, QUESTION, ScriptedEngine
from shared_models import SharedModels
from tiny_artifact import EOS, REASONING_TEMPLATE, rewrite_manifest

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import EngineError, EvaluationCancelledError
from edgekit.runtime import background
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.loading import load
from edgekit.runtime.session import Message, Session
from edgekit.runtime.tokenizer import Tokenizer


class PreparingEngine(ScriptedEngine):
    """Can be cancelled, which ends the evaluation of a prompt behind the first."""

    def __init__(self, vocab_size: int, context: int, script: Sequence[int]) -> None:
        super().__init__(vocab_size, context, [*script, *[EOS] * 9])
        self.waits = False  # before it evaluates in another thread than the main one
        self.started, self.cancelled = threading.Event(), threading.Event()

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        if threading.current_thread() is not threading.main_thread():
            self.cancelled.clear()
            self.started.set()
            if self.waits and self.cancelled.wait(60):
                raise EvaluationCancelledError("the call was cancelled")
        return super().evaluate(ids)

    def cancel(self) -> None:
        self.cancelled.set()


THOUGHTFUL = "Let me see.\n</think>\n\n" + "Paris. " * 90  # the answer has more tokens than a piece


@pytest.fixture
def preparing(reasoning_artifact: Path) -> Iterator[tuple[Session, PreparingEngine]]:
    manifest = read_manifest(reasoning_artifact)
    tokenizer = Tokenizer.open(reasoning_artifact, manifest.tokens)
    script = [*tokenizer.encode(THOUGHTFUL, add_bos=False), EOS]
    engine = PreparingEngine(int(manifest.model["vocab_size"]), 640, script)
    template = ChatTemplate.open(reasoning_artifact, tokenizer)
    with Session(engine, tokenizer, template, manifest, prepare=True) as session:
        yield session, engine


@pytest.mark.parametrize("kept", ["text", "answer"])
def test_the_next_turn_is_prepared(preparing: tuple[Session, PreparingEngine], kept: str) -> None:
    session, engine = preparing
    first = session.chat(QUESTION).complete()
    session._leased.background.wait()
    engine.evaluated, session._leased.prepares = [], False
    answer: Message = {"role": "assistant", "content": getattr(first, kept)}
    second = session.chat([*QUESTION, answer, {"role": "user", "content": "Rome?"}]).complete()
    [rest] = engine.evaluated
    assert session.tokenizer.decode(rest) == "Rome?\n<think>\n"
    assert second.finish_reason == "stop"


def test_a_preparation_that_was_given_up_is_continued_in_the_same_pieces(
    preparing: tuple[Session, PreparingEngine], tmp_path: Path
) -> None:
    session, engine = preparing
    engine.waits = True
    first = session.chat(QUESTION).complete()
    assert engine.started.wait(60)
    with pytest.raises(EngineError, match="cannot save"):  # but not that the session is in use
        session.save_state(tmp_path / "state")
    engine.evaluated, session._leased.prepares = [], False
    answer: Message = {"role": "assistant", "content": first.text}
    second = session.chat([*QUESTION, answer, {"role": "user", "content": "Rome?"}]).complete()
    *pieces, rest = engine.evaluated
    assert sum(map(len, pieces)) > 128
    assert session.tokenizer.decode(rest) == "Rome?\n<think>\n"
    assert second.finish_reason == "stop"


@pytest.mark.parametrize("end", ["close", "exit"])
def test_a_preparation_ends_with_its_session_and_with_the_process(
    preparing: tuple[Session, PreparingEngine], end: str
) -> None:
    session, engine = preparing
    engine.waits = True
    session.chat(QUESTION).complete()
    assert engine.started.wait(60)
    if end == "close":
        session.close()
    else:
        background._end()  # as atexit does
    assert not any(thread.name == "edgekit-prepare" for thread in threading.enumerate())


def test_nothing_is_prepared_unless_the_answer_ended_and_is_the_last(
    preparing: tuple[Session, PreparingEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = preparing
    started: list[object] = []
    monkeypatch.setattr(session._leased.background, "start", started.append)
    generation = session.chat(QUESTION)
    next(generation)
    generation.stop()
    assert started == []
    generation = session.chat(QUESTION)
    next(generation)
    session.generate("Rome")  # supersedes it
    generation.close()
    assert started == []
    session.chat(QUESTION).complete()
    assert len(started) == 1
    session._leased.prepares = False
    session.chat(QUESTION).complete()
    assert len(started) == 1


def test_preparing_does_not_change_answers(models: SharedModels, tmp_path: Path) -> None:
    """However long somebody reads; with the arithmetic of onnxruntime and of the native engine."""
    native = shutil.copytree(models.artifact("llama", "int4 block 32"), tmp_path / "native")
    rewrite_manifest(native, reasoning=True)
    (native / "chat_template.jinja").write_text(REASONING_TEMPLATE, encoding="utf-8")
    for folder in (models.tiny(reasoning=True), native):
        found: set[tuple[int, ...]] = set()
        prepared = 0
        for wait in (True, False):
            with load(folder, threads=1) as session:
                messages: list[Message] = [{"role": "user", "content": "What is it? " * 9}]
                for question in ("And Rome?", "And?"):
                    generation = session.chat(messages, sampling=GREEDY, think_tokens=20, max_tokens=160)
                    completion = generation.complete()
                    if wait:
                        session._leased.background.wait()
                        evaluated = len(completion.prompt_tokens) + len(completion.tokens) - 1
                        prepared += evaluated != session.engine.position
                    messages.append({"role": "assistant", "content": completion.text})
                    messages.append({"role": "user", "content": question})
                found.add(tuple(session.chat(messages, sampling=GREEDY, max_tokens=20).complete().tokens))
        assert prepared > 0
        assert len(found) == 1
