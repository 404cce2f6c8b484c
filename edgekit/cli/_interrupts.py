"""Signals that end the process raise an exception, but not in the middle of an import.

Ctrl-C raises KeyboardInterrupt. SIGTERM and SIGHUP raise :class:`Terminated`, so that the terminal gets its settings
back and files are closed.

An exception in the initialization of a C extension crashes some of them (numpy, onnxruntime), and others fail in ways
that look like a broken installation. So a signal that comes in an import waits until the import has ended.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_AGAIN_S = 0.05  # between two looks at whether an import has ended
_IMPORT = "<frozen importlib._bootstrap>"  # the file name of Python's own code for imports
_waiting: BaseException | None = None  # until an import has ended


class Terminated(SystemExit):
    """SIGTERM or SIGHUP has come. Unlike Ctrl-C, which ends an answer, it ends every command.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)  # what shells report for a program that the signal ended


@contextmanager
def raised_interrupts() -> Iterator[None]:
    """Have signals raise exceptions in the block. Where one is ignored, it stays so."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, _handle)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
        forget_interrupt()


def interrupt(error: BaseException, frame: FrameType | None) -> None:
    """Raise an exception, now or as soon as no import is going on; from the handler of a signal.

    Args:
        error: The exception.
        frame: What the main thread executes. Windows has no timer to look again, so it raises at once.
    """
    global _waiting
    if isinstance(_waiting, Terminated):  # Ctrl-C does not make it less
        error = _waiting
    if not _imports(frame) or not hasattr(signal, "setitimer"):
        _waiting = None
        raise error
    _waiting = error
    signal.signal(signal.SIGALRM, lambda number, frame: interrupt(error, frame))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)


def forget_interrupt() -> None:
    """Drop an interrupt that waits for the end of an import."""
    global _waiting
    _waiting = None
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def hangup_as_sigterm() -> Iterator[None]:
    """Turn SIGHUP into SIGTERM in the block, for a library that handles only the latter."""
    before = signal.getsignal(signal.SIGHUP) if hasattr(signal, "SIGHUP") else None
    if before in (signal.SIG_IGN, None):
        yield
        return
    signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def ignore_signals() -> None:
    """Let no signal change the message and the exit code any more. Python itself stops handling them while it ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _handle(number: int, frame: FrameType | None) -> None:
    interrupt(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number), frame)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False
