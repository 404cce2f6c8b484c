"""Python threads, and what to say if the system does not start them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

from .errors import BuildError, EdgekitError, EngineError

_REFUSED = ("can't start new thread", "pthread_create failed")  # of the RuntimeErrors of CPython and of onnxruntime
MOST_THREADS = 1024  # of an engine; the native library has the same limit
_LARGE_STACK = 64 << 20  # bytes
_STACK_SIZE = threading.Lock()  # of threads that are started, a setting of the process
_T = TypeVar("_T")


def check_thread_count(threads: int) -> None:
    """Check the number of an engine's threads, before any of them starts.

    Raises:
        EngineError: It is not from 1 to ``MOST_THREADS``.
    """
    if not 1 <= threads <= MOST_THREADS:
        raise EngineError(f"{threads} threads were requested; allowed: 1 to {MOST_THREADS}")


def check_threads(threads: int) -> None:
    """Check that onnxruntime can start its threads: it waits without end if the system refuses one of them.

    Args:
        threads: The threads of a session; the calling thread is one of them.

    Raises:
        EngineError: The system does not start that many, or they are more than ``MOST_THREADS``.
    """
    check_thread_count(threads)
    release = Event()
    started: list[Thread] = []
    try:
        for _ in range(threads - 1):
            thread = Thread(target=release.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        raise _refused(EngineError, threads) from None
    finally:
        release.set()
        for thread in started:
            thread.join()


@contextmanager
def thread_pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads. The block ends when all its tasks have ended.

    Args:
        threads: The largest number of threads.
        name: The prefix of their names.

    Raises:
        BuildError: The system did not start a thread.
    """
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    except RuntimeError as error:
        if not _is_refusal(error):
            raise
        raise _refused(BuildError, threads) from None


@contextmanager
def told_refusals(threads: int) -> Iterator[None]:
    """Tell in plain words that onnxruntime could not start its threads; between a check and the start, others may.

    Args:
        threads: The threads of a session.

    Raises:
        EngineError: The system did not start a thread.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_refusal(error):
            raise
        raise _refused(EngineError, threads) from None


def on_large_stack(work: Callable[[], _T]) -> _T:
    """Run a function in a thread with a stack of 64 MiB, of which it takes only what it uses.

    Other threads have 8 MiB on Linux, and 512 KiB on macOS.

    Raises:
        EngineError: The system did not start a thread.
    """
    with told_refusals(1), ThreadPoolExecutor(1, "edgekit-large-stack") as pool:
        with _STACK_SIZE:
            before = threading.stack_size(_LARGE_STACK)
            try:
                result = pool.submit(work)  # starts the thread
            finally:
                threading.stack_size(before)
        return result.result()


def _is_refusal(error: RuntimeError) -> bool:
    return any(phrase in str(error) for phrase in _REFUSED)


def _refused(kind: type[EdgekitError], threads: int) -> EdgekitError:
    return kind(
        f"cannot start {threads} thread{'s' * (threads > 1)}: the system refuses one of them",
        hint="raise the limits on processes and memory (ulimit -u, ulimit -v, pids.max), or use fewer --threads",
    )
