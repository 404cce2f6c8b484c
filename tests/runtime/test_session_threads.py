"""Sessions: cancelling answers, and use from several threads and signal handlers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scripted_engine import GREEDY, ScriptedEngine, scripted
from shared_models import SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import EngineError, EvaluationCancelledError, SessionBusyError
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.loading import load
from edgekit.runtime.session import Session
from edgekit.runtime.tokenizer import Tokenizer


class SlowEngine(ScriptedEngine):
    """Evaluates a token until it is cancelled, or for 60 s."""

    def __init__(self, vocab_size: int, context: int, script: Sequence[int]) -> None:
        super().__init__(vocab_size, context, script)
        self.started, self.cancelled = threading.Event(), threading.Event()

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self.cancelled.clear()
        self.started.set()
        if self.cancelled.wait(60):
            raise EvaluationCancelledError("the call was cancelled")
        raise AssertionError("nobody cancelled")

    def cancel(self) -> None:
        self.cancelled.set()


@pytest.fixture
def slow(artifact: Path) -> tuple[Session, SlowEngine]:
    manifest = read_manifest(artifact)
    engine = SlowEngine(int(manifest.model["vocab_size"]), 256, [])
    tokenizer = Tokenizer.open(artifact, manifest.tokens)
    return Session(engine, tokenizer, ChatTemplate.open(artifact, tokenizer), manifest), engine


@pytest.mark.parametrize("end", ["session.cancel", "generation.cancel", "generation.stop", "session.close"])
def test_an_answer_is_cancelled_from_another_thread(slow: tuple[Session, SlowEngine], end: str) -> None:
    session, engine = slow
    generation = session.generate("Rome")
    ends: dict[str, Callable[[], object]] = {
        "session.cancel": session.cancel,
        "generation.cancel": generation.cancel,
        "generation.stop": generation.stop,
        "session.close": session.close,
    }

    def cancel() -> None:
        engine.started.wait()
        ends[end]()

    other = threading.Thread(target=cancel)
    other.start()
    assert list(generation) == []
    other.join()
    assert generation.completion.finish_reason == "interrupted"
    assert list(generation) == [], "it has ended"


def test_a_cancellation_that_comes_late_does_not_end_the_next_answer(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, engine = scripted(artifact, "Rome")
    evaluate, late = engine.evaluate, [True]

    def cancelled_once(ids: Sequence[int]) -> NDArray[np.float32]:
        if late:
            late.pop()
            raise EvaluationCancelledError("the call was cancelled")
        return evaluate(ids)

    monkeypatch.setattr(engine, "evaluate", cancelled_once)
    done = session.generate("Paris", sampling=GREEDY).complete()
    assert (done.text, done.finish_reason) == ("Rome", "stop")


def test_a_second_thread_is_told_that_the_session_is_in_use(slow: tuple[Session, SlowEngine], tmp_path: Path) -> None:
    session, engine = slow
    generation = session.generate("Rome")
    other = threading.Thread(target=lambda: list(generation))
    other.start()
    engine.started.wait()
    with pytest.raises(SessionBusyError, match="another thread is generating this answer"):
        next(generation)
    with pytest.raises(SessionBusyError, match="the session is in use by another call"):
        session.generate("Paris")
    session.cancel()
    other.join()
    assert generation.completion.finish_reason == "interrupted"


def test_two_threads_on_one_session(models: SharedModels) -> None:
    """Each gets its answer or an error, whatever their timing."""
    with load(models.artifact("llama", "int4 block 32"), engine="native", threads=2) as session:
        prompts = {"The capital": session.generate("The capital", max_tokens=5, sampling=GREEDY).complete().tokens}
        prompts["It is a"] = session.generate("It is a", max_tokens=5, sampling=GREEDY).complete().tokens
        wrong: list[object] = []
        answered = 0

        def use(prompt: str) -> None:
            nonlocal answered
            for _ in range(100):
                try:
                    found = session.generate(prompt, max_tokens=5, sampling=GREEDY).complete().tokens
                except EngineError as error:
                    if not isinstance(error, SessionBusyError) and "cannot be continued" not in str(error):
                        wrong.append(error)
                except Exception as error:
                    wrong.append(error)
                else:
                    answered += 1
                    if found != prompts[prompt]:
                        wrong.append(found)

        threads = [threading.Thread(target=use, args=[prompt]) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert answered > 0
        assert session.generate("It is a", max_tokens=5, sampling=GREEDY).complete().tokens == prompts["It is a"]


def test_a_signal_handler_may_cancel_but_not_generate(slow: tuple[Session, SlowEngine]) -> None:
    session, engine = slow
    generation = session.generate("Rome")
    refused: list[type[Exception]] = []

    def handle(number: int, frame: object) -> None:
        for call in (lambda: next(generation), lambda: session.generate("Paris"), session.close):
            try:
                call()
            except Exception as error:
                refused.append(type(error))
        generation.stop()

    def interrupt() -> None:
        engine.started.wait()
        time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    other = threading.Thread(target=interrupt)
    try:
        other.start()
        assert list(generation) == []
        other.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert refused == [SessionBusyError] * 3
