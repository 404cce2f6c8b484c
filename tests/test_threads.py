"""Python threads that the system refuses to start."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from edgekit.errors import BuildError, EngineError
from edgekit.threads import check_threads, thread_pool, told_refusals


def refuse_after(started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system start that many more threads."""
    start, left = threading.Thread.start, started

    def limited(self: threading.Thread, *args: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("can't start new thread")
        start(self, *args)

    monkeypatch.setattr(threading.Thread, "start", limited)


def test_tasks_run_and_end_with_the_block() -> None:
    with thread_pool(3, "test") as pool:
        futures: list[Future[int]] = [pool.submit(lambda i=i: i * i) for i in range(50)]
    assert [future.result() for future in futures] == [i * i for i in range(50)]


@pytest.mark.parametrize("started", [0, 2])
def test_a_refused_thread_is_an_error_in_plain_words(monkeypatch: pytest.MonkeyPatch, started: int) -> None:
    refuse_after(started, monkeypatch)
    wait = threading.Event()

    def work() -> None:
        with thread_pool(4, "test") as pool:
            for _ in range(4):
                pool.submit(wait.wait, 0.05)

    with pytest.raises(BuildError, match="cannot start 4 threads") as caught:
        work()
    assert "pids.max" in caught.value.hint


def test_what_onnxruntime_says_of_refused_threads_is_told_in_plain_words() -> None:
    with pytest.raises(EngineError, match="cannot start 4 threads: the system refuses one of them"), told_refusals(4):
        raise RuntimeError(
            "PosixThread pthread_create failed, error code: 11 error msg: Resource temporarily unavailable"
        )
    with pytest.raises(RuntimeError, match="another"), told_refusals(4):
        raise RuntimeError("another")


def test_threads_are_tried_before_onnxruntime_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    refuse_after(3, monkeypatch)
    check_threads(4)  # the calling thread is one of them
    monkeypatch.undo()
    refuse_after(2, monkeypatch)
    with pytest.raises(EngineError, match="cannot start 4 threads"):
        check_threads(4)
    assert threading.active_count() == before


def test_errors_of_the_work_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="another"), thread_pool(1, "test"):
        raise RuntimeError("another")
