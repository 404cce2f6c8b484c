"""Python threads that the system refuses to start."""

from __future__ import annotations

import ctypes
import sys
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from edgekit.errors import BuildError, EngineError
from edgekit.threads import check_threads, on_large_stack, thread_pool, told_refusals


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


def test_a_large_stack_is_for_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.stack_size()
    assert on_large_stack(lambda: 5) == 5
    assert threading.stack_size() == before
    with pytest.raises(KeyError):
        on_large_stack(lambda: {}[1])
    refuse_after(0, monkeypatch)
    with pytest.raises(EngineError, match="cannot start 1 thread: the system refuses one of them"):
        on_large_stack(lambda: 1)
    assert threading.stack_size() == before


def stack_bytes() -> int:
    """The size of this thread's stack, as glibc and musl know it."""
    library, attributes, size = ctypes.CDLL(None), ctypes.create_string_buffer(256), ctypes.c_size_t()
    library.pthread_self.restype = ctypes.c_void_p
    assert library.pthread_getattr_np(ctypes.c_void_p(library.pthread_self()), attributes) == 0
    assert library.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
    library.pthread_attr_destroy(attributes)
    return size.value


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other functions for a stack's size")
def test_a_large_stack_is_one() -> None:
    assert on_large_stack(stack_bytes) >= 64 << 20
    with thread_pool(1, "test") as pool:
        assert pool.submit(stack_bytes).result() < 64 << 20
