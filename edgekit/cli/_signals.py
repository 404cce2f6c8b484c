"""Ctrl-C, SIGTERM and SIGHUP in commands that write files: whichever comes, and however often, nothing is left."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import ParamSpec, TypeVar

from ..leftovers import remove_all
from ._interrupts import SIGNALS, forget_interrupt, interrupt

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_SHOW_CURSOR = "\x1b[?25h"  # progress bars hide it
_INTERRUPTED = 130


def ends_cleanly(command: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate a command's function.

    The first signal raises KeyboardInterrupt (``_interrupts.py``), so that the work ends as it does for an error:
    threads finish what they are doing, and temporary folders are removed. The second one removes them at once and ends
    the process.
    A signal that is ignored, as by nohup, stays ignored.
    """

    @functools.wraps(command)
    def with_signals(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with _handled():
            return command(*args, **kwargs)

    return with_signals


@contextmanager
def _handled() -> Iterator[None]:
    seen = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            _end()
        seen = True
        interrupt(KeyboardInterrupt(), frame)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in handled:  # no signal ends this
            signal.signal(number, signal.SIG_IGN)
        forget_interrupt()
        remove_all()
        for number in handled:
            signal.signal(number, before[number])


def _end() -> None:
    remove_all()
    with suppress(OSError, ValueError):
        if sys.stderr.isatty():
            sys.stderr.write(_SHOW_CURSOR)
        sys.stderr.write("error: interrupted twice; temporary files were removed\n")
        sys.stderr.flush()
    os._exit(_INTERRUPTED)
