"""Calls in another thread: their exceptions, what Ctrl-C does to them, and turns."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from edgekit.errors import EngineError, SessionBusyError
from edgekit.runtime.interruptible import SHORTEST, OwnLock, Turn, interruptible


def never() -> None:
    raise AssertionError("nothing was cancelled")


@pytest.mark.parametrize("tokens", [1, SHORTEST])
def test_exceptions_of_the_call_are_raised(tokens: int) -> None:
    def call() -> None:
        raise EngineError("what happened")

    with pytest.raises(EngineError, match="what happened"):
        interruptible(call, never, tokens)


def test_few_tokens_and_other_threads_need_no_thread() -> None:
    threads: list[threading.Thread] = []

    def call() -> None:
        threads.append(threading.current_thread())

    interruptible(call, never, SHORTEST - 1)
    other = threading.Thread(target=lambda: interruptible(call, never, SHORTEST))
    other.start()
    other.join()
    interruptible(call, never, SHORTEST)
    assert threads[:2] == [threading.main_thread(), other]
    assert threads[2] not in threads[:2]


def test_without_another_thread_the_call_is_made_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads: list[threading.Thread] = []
    interruptible(lambda: threads.append(threading.current_thread()), never, SHORTEST)
    assert threads == [threading.main_thread()]


def test_a_fork_has_no_turn_and_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, lock = Turn("the session"), OwnLock("the engine")
    with turn.take(), lock, lock:
        assert not lock.is_other
    monkeypatch.setattr(os, "getpid", lambda: -5)
    assert lock.is_other
    with pytest.raises(EngineError, match=r"the session belongs to process \d+; this process, -5, is a fork of it"):
        turn.take().__enter__()
    with pytest.raises(EngineError, match="the engine belongs to process"), lock:
        pass


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background and were started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_cancels_the_call_and_waits_for_its_end() -> None:
    cancelled, ended = threading.Event(), threading.Event()

    def call() -> None:
        signal.raise_signal(signal.SIGINT)
        assert cancelled.wait(60)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        interruptible(call, cancelled.set, SHORTEST)
    assert ended.is_set()


def test_a_turn_belongs_to_one_call() -> None:
    turn = Turn("the thing")
    with turn.take():
        with pytest.raises(SessionBusyError, match="the thing is in use by another call"), turn.take():
            pass
        with pytest.raises(SessionBusyError), turn.take(while_waiting=never):  # it would wait for itself
            pass
    with turn.take():
        pass


def test_waiting_for_a_turn() -> None:
    turn, taken, asked = Turn("the thing"), threading.Event(), threading.Event()

    def use() -> None:
        with turn.take():
            taken.set()
            assert asked.wait(60)

    user = threading.Thread(target=use)
    user.start()
    taken.wait()
    with turn.take(while_waiting=asked.set):
        assert asked.is_set()
    user.join()


def test_a_signal_handler_never_waits_for_its_own_thread() -> None:
    """Not even if it comes at the moment at which the thread gets the turn, or gives it back."""
    turn, used = Turn("the thing"), list[str]()

    class Lock:
        """Signal handlers run after it was acquired and before it is released."""

        def __init__(self, lock: Any) -> None:
            self.lock = lock

        def acquire(self, blocking: bool) -> bool:
            taken = bool(self.lock.acquire(blocking=blocking))
            handle("acquired")
            return taken

        def release(self) -> None:
            handle("released")
            self.lock.release()

    def handle(when: str) -> None:
        if when not in used:
            used.append(when)
            with turn.take(while_waiting=never):
                pass

    turn._lock = Lock(turn._lock)  # type: ignore[assignment]
    with turn.take():
        pass
    assert used == ["acquired", "released"]


def test_a_signal_handler_that_returns_does_not_end_the_call() -> None:
    handled: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        handled.append(number)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        interruptible(lambda: signal.raise_signal(signal.SIGUSR1), never, SHORTEST)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1]
