"""Progress reports of long work: their types, and functions to make and combine them."""

from __future__ import annotations

from collections.abc import Callable

# Called with a phase's name, how much of the phase is done, and how much there is in all (any unit).
Progress = Callable[[str, float, float], None]
# The same for one phase, without its name.
Share = Callable[[float, float], None]


def no_progress(phase: str, done: float, total: float) -> None:
    """A :data:`Progress` that reports nothing."""


def no_share(done: float, total: float) -> None:
    """A :data:`Share` that reports nothing."""


def phase(progress: Progress, name: str) -> Share:
    """Report the progress of one phase.

    Args:
        progress: Receives the reports.
        name: The phase's name, as a person reads it.

    Returns:
        A function of (done, total).
    """

    def report(done: float, total: float) -> None:
        progress(name, done, total)

    return report
