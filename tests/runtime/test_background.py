"""Work between answers: one at a time, given up when the session is needed or the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from edgekit.runtime.background import Background


class Work:
    """Works until it is told not to go on and is cancelled."""

    def __init__(self) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()
        self.count = 0
        self.went_on: bool | None = None

    def __call__(self, go_on: Callable[[], bool]) -> None:
        self.count += 1
        self.begun.set()
        assert self.cancelled.wait(60)
        self.went_on = go_on()


def test_work_is_given_up_when_the_session_is_needed() -> None:
    work = Work()
    background = Background(work.cancelled.set)
    background.start(work)
    background.start(work)  # one at a time
    assert work.begun.wait(60)
    with background.held_off():
        assert (work.count, work.went_on) == (1, False)
        background.start(work)  # refused
    background.wait()
    assert work.count == 1
    background.start(work)
    background.wait()
    assert (work.count, work.went_on) == (2, True)


def test_work_may_hold_off_itself() -> None:
    """As when it drops the last reference to its session, which is then closed."""
    background = Background(lambda: None)
    held = threading.Event()

    def work(go_on: Callable[[], bool]) -> None:
        with background.held_off():
            held.set()

    background.start(work)
    background.wait()
    assert held.is_set()


def test_no_work_is_done_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    work = Work()
    background = Background(lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        background.start(work)
    background.wait()
    assert work.count == 0
    work.cancelled.set()
    background.start(work)
    background.wait()
    assert work.count == 1


@pytest.mark.parametrize("forked", [False, True])
def test_work_does_not_keep_a_process(forked: bool) -> None:
    """Nor one that was forked meanwhile, which does not have the thread."""
    program = f"""
import os, threading
from edgekit.runtime.background import Background
begun, cancelled = threading.Event(), threading.Event()
def work(go_on):
    begun.set()
    while go_on(): cancelled.wait(60)
background = Background(cancelled.set)
background.start(work)
begun.wait()
child = os.fork() if {forked} else -1
if child > 0: print(os.waitpid(child, 0)[1], flush=True)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("0\n" if forked else "")
