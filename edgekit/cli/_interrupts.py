"""Ctrl-C raises KeyboardInterrupt, but not in the middle of an import.

An exception in the initialization of a C extension crashes some of them (numpy, onnxruntime), and others fail in ways
that look like a broken installation. So a signal that comes in an import waits until the import has ended.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_S = 0.05  # between two looks at whether an import has ended
_IMPORT = "<frozen importlib._bootstrap>"  # the file name of Python's own code for imports


@contextmanager
def raised_interrupts() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt in the block. Where it is ignored, it stays so."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: interrupt(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        forget_interrupt()


def interrupt(frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, now or as soon as no import is going on; from the handler of a signal.

    Args:
        frame: What the main thread executes. Windows has no timer to look again, so it raises at once.
    """
    if not _imports(frame) or not hasattr(signal, "setitimer"):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, lambda number, frame: interrupt(frame))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)


def forget_interrupt() -> None:
    """Drop an interrupt that waits for the end of an import."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False
