"""The processor time that all prompts of one command share.

``template_meter.py`` gives each rendering two seconds. A build renders some 280 prompts, so a template that needs
nearly its limit each time would make it take minutes. Within :func:`shared_budget`, renderings also share SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# The prompts of a build take 0.1 seconds with the templates in use, and some ten times as much on a slow board.
SECONDS = 20.0


class Budget:
    """Processor time to be spent.

    Args:
        seconds: What there is in all.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Subtract the processor time of this thread during the block."""
        started = time.thread_time()
        try:
            yield
        finally:
            self.left -= time.thread_time() - started


_CURRENT: ContextVar[Budget | None] = ContextVar("edgekit_template_budget", default=None)


@contextmanager
def shared_budget() -> Iterator[None]:
    """Let all prompts that this thread renders in the block share SECONDS, also with a block around it."""
    if _CURRENT.get() is not None:
        yield
        return
    token = _CURRENT.set(Budget(SECONDS))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_budget() -> Budget:
    """What a rendering may spend besides its own limit; without end outside of :func:`shared_budget`."""
    return _CURRENT.get() or Budget(float("inf"))
