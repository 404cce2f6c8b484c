"""Work that a session does in a thread between answers, and gives up as soon as the session is needed."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Background:
    """At most one piece of work at a time, in a daemon thread. It is given up when the process ends.

    Args:
        cancel: Makes a long call of the work end soon. Called again and again until the work has ended.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._lock = threading.Lock()  # held for moments: to start work, and to forbid it
        self._users = 0  # blocks in which no work may run
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[Callable[[], bool]], None]) -> None:
        """Begin to work, unless the session is in use.

        Args:
            work: Takes a function that says whether to go on, and asks it often. It handles its errors itself.
        """

        def run() -> None:
            try:
                work(lambda: self._users == 0)
            finally:
                _running.discard(self)

        with self._lock:
            if self._users or (self._thread is not None and self._thread.is_alive()):
                return
            thread = threading.Thread(target=run, name="edgekit-prepare", daemon=True)
            _running.add(self)
            try:
                thread.start()
            except RuntimeError:  # no thread can be started: there are too many, or the interpreter ends
                _running.discard(self)
                return
            self._thread = thread

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """Give up the work, and let no other begin during the block."""
        with self._lock:
            self._users += 1
        try:
            self._stop()
            yield
        finally:
            with self._lock:
                self._users -= 1

    def wait(self) -> None:
        """Return when the work has ended by itself."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _stop(self) -> None:
        thread = self._thread
        if thread is threading.current_thread():  # the work has dropped the last reference to its session
            return
        while thread is not None and thread.is_alive():
            self._cancel()  # repeated, because a call may be about to begin
            thread.join(0.002)
        self._thread = None


_running: set[Background] = set()


@atexit.register
def _end() -> None:
    """End all work before the interpreter: a library must not compute while it is unloaded."""
    for each in list(_running):
        with suppress(Exception), each.held_off():
            pass
