"""Progress of long work on stderr: bars on a terminal, occasional lines in a log."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import rich.progress
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from ..progress import Progress
from ..units import format_seconds
from ._screen import Screen

_LABEL_WIDTH = 32  # of the longest phase name but those that hold a file's name
_BAR_WIDTH, _LEAST_BAR = 40, 8
_TIMING_WIDTH = len("59.9 s, 9 min 59 s left")
_LINE_EVERY_S = 60.0  # in a log


class _Share(ProgressColumn):
    """``35 %``. Rounded down, so that only finished work shows 100 %."""

    def render(self, task: Task) -> Text:
        return Text(f"{math.floor(task.percentage):3} %")


class _Timing(ProgressColumn):
    """``4.0 s, 12.0 s left``. The rate is the mean since the phase began, so rare reports give an estimate too."""

    def render(self, task: Task) -> Text:
        elapsed_s = (task.finished_time if task.finished else task.elapsed) or 0.0
        return Text(_timing(elapsed_s, task.completed, task.total or 0.0, task.fields["resumed_at"], task.stop_time))


def _timing(elapsed_s: float, done: float, total: float, resumed_at: float, stop_time: float | None = None) -> str:
    """The time a phase has taken, and the time it still needs where that can be estimated."""
    if stop_time is not None or done <= resumed_at or done >= total:
        return format_seconds(elapsed_s)
    left_s = elapsed_s * (total - done) / (done - resumed_at)
    return f"{format_seconds(elapsed_s)}, {format_seconds(left_s)} left"


class _Bars:
    """A bar per phase. When a phase begins, the one before it stops and keeps its bar."""

    def __init__(self, progress: rich.progress.Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def report(self, phase: str, done: float, total: float) -> None:
        """Show how much of a phase is done. Any thread may call this."""
        with contextlib.suppress(OSError), self._lock:  # OSError: the terminal is gone; the work goes on
            if phase not in self._tasks:
                for task in self._tasks.values():
                    self._progress.stop_task(task)
                self._tasks[phase] = self._progress.add_task(phase, total=total or None, resumed_at=done)
            self._progress.update(self._tasks[phase], completed=done, total=total or None)


class _Log:
    """A line when a phase begins, then one a minute."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._begun: dict[str, tuple[float, float]] = {}  # phase: when it began, and how much was done then
        self._last_s = 0.0

    def report(self, phase: str, done: float, total: float) -> None:
        """Print a line if one is due."""
        now_s = time.monotonic()
        if phase not in self._begun:
            self._begun[phase] = (now_s, done)
            self._last_s = now_s
            self._screen.say(f"{phase} ...")
        elif now_s - self._last_s >= _LINE_EVERY_S and done < total:
            began_s, resumed_at = self._begun[phase]
            self._last_s = now_s
            self._screen.say(
                f"{phase}: {100 * done / total:.0f} %, {_timing(now_s - began_s, done, total, resumed_at)}"
            )


def _columns(width: int) -> list[ProgressColumn]:
    """Name, bar, share and time within a width; without a bar where there is no room for one."""
    room = width - len(" 100 % ") - _TIMING_WIDTH - 1
    label = min(_LABEL_WIDTH, max(room, 1))
    bar = min(_BAR_WIDTH, room - label - 1)
    columns: list[ProgressColumn] = [
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(min_width=label, max_width=label, no_wrap=True, overflow="ellipsis"),
        ),
        _Share(table_column=Column(no_wrap=True)),
        _Timing(table_column=Column(no_wrap=True)),
    ]
    if bar >= _LEAST_BAR:
        columns.insert(1, BarColumn(bar_width=bar, complete_style="blue", finished_style="green"))
    return columns


@contextmanager
def progress_on(screen: Screen) -> Iterator[Progress]:
    """Show progress on a screen until the block ends.

    Args:
        screen: Where to draw. Whatever else is printed while the bars are shown must go through the same screen.

    Yields:
        A function to call with the phase's name, the amount done and the total, in any unit.
    """
    if not screen.is_interactive:
        yield _Log(screen).report
        return
    bars = rich.progress.Progress(*_columns(screen.width), console=screen, redirect_stdout=False)
    with contextlib.suppress(OSError):
        bars.start()
    try:
        yield _Bars(bars).report
    finally:
        with contextlib.suppress(OSError):
            bars.stop()
