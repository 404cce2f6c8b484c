"""Long calls of a library: a session has one at a time, other threads can cancel it, and so can Ctrl-C.

Python runs signal handlers in the main thread only, and not before a call of a library has returned. So the main thread
lets another thread make the call, and waits for it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import EngineError, SessionBusyError

SHORTEST = 32  # tokens; fewer take less than the 300 ms in which an answer should end, on slow devices as well


def interruptible(call: Callable[[], None], cancel: Callable[[], None], tokens: int) -> None:
    """Make a call that evaluates tokens. An exception in the main thread, such as from Ctrl-C, cancels it.

    Args:
        call: Evaluates tokens. Its exceptions are raised here.
        cancel: Makes ``call`` end soon, with any result.
        tokens: How many tokens are evaluated. Few are evaluated in the calling thread.
    """
    if tokens < SHORTEST or threading.current_thread() is not threading.main_thread():
        call()
        return
    gate, begun, abandoned, ended = threading.Lock(), threading.Event(), threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        with gate:
            if abandoned.is_set():
                return
            begun.set()
        try:
            call()
        except BaseException as error:
            failures.append(error)
        finally:
            ended.set()

    try:
        try:
            threading.Thread(target=run, name="edgekit-evaluate", daemon=True).start()
        except RuntimeError:  # the system starts no more threads, so Ctrl-C waits for the end
            run()
        while not ended.wait(0.1):  # a signal that another thread receives does not wake this one
            pass
    except BaseException:
        with gate:
            abandoned.set()
        # Repeated, because the library may not have begun. The call's memory must not be freed before it has ended.
        while begun.is_set() and not ended.wait(0.01):
            cancel()
        raise
    if failures:
        raise failures[0]


class OwnProcess:
    """Tells whether this process is the one that made an object, and not a fork of it.

    A fork has none of the threads: what they have locked stays locked, and what they would do is never done.

    Args:
        what: The object, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what, self._process = what, os.getpid()

    @property
    def is_other(self) -> bool:
        """Whether this process is a fork of the one that made the object."""
        return os.getpid() != self._process

    def require(self) -> None:
        """Check that it is not.

        Raises:
            EngineError: It is.
        """
        if self.is_other:
            raise EngineError(
                f"{self._what} belongs to process {self._process}; this process, {os.getpid()}, is a fork of it",
                hint="load the artifact in each process that uses it",
            )


class OwnLock(OwnProcess):
    """A reentrant lock that cannot be acquired in a fork of its process, where nobody might release it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._lock = threading.RLock()

    def acquire(self, blocking: bool = True) -> bool:
        """As of ``threading.RLock``.

        Raises:
            EngineError: This process is a fork.
        """
        self.require()
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """As of ``threading.RLock``."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class Turn(OwnProcess):
    """The right to use something that one call at a time can use.

    Args:
        what: What it is, for messages.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._lock = threading.RLock()  # so that a signal handler never waits for the call that it has interrupted
        self._taken = False  # by the thread that holds the lock

    @contextmanager
    def take(self, while_waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Have the turn during the block.

        Args:
            while_waiting: Called again and again while another thread has the turn; None raises an error instead.

        Raises:
            SessionBusyError: Another call has the turn: in this thread, which a signal handler has interrupted, or in
                another one.
            EngineError: This process is a fork of the one that made it.
        """
        self.require()
        while not self._lock.acquire(blocking=False):
            if while_waiting is None:
                raise self._busy()
            while_waiting()
            time.sleep(0.002)
        try:
            if self._taken:
                raise self._busy()
            self._taken = True
            try:
                yield
            finally:
                self._taken = False
        finally:
            self._lock.release()

    def _busy(self) -> SessionBusyError:
        return SessionBusyError(
            f"{self._what} is in use by another call, perhaps in another thread",
            hint="wait for that call or cancel it, or load the artifact once for each thread",
        )
