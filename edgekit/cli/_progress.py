"""Progress of long work on stderr: bars on a terminal, occasional lines in a log."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import rich.progress
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from ..progress import Progress
from ..units import format_seconds
from ._screen import Screen

_LINE_EVERY_S = 60.0  # in a log
_RATE_OVER_S = 24 * 3600.0  # of the reports that an estimate uses: all, because a layer can take minutes


class _Phases:
    """A bar per phase; in a log, a line when a phase begins and then one a minute.

    When a phase begins, the one before it stops and keeps its bar.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.bars = rich.progress.Progress(
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(bar_width=None, complete_style="blue", finished_style="green", table_column=Column(ratio=1)),
            TaskProgressColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=screen,
            expand=True,
            redirect_stdout=False,
            speed_estimate_period=_RATE_OVER_S,
            disable=not screen.is_interactive,
        )
        self._tasks: dict[str, TaskID] = {}
        self._next_line_s = 0.0
        self._lock = threading.Lock()

    def report(self, phase: str, done: float, total: float) -> None:
        """Show how much of a phase is done. Any thread may call this."""
        with contextlib.suppress(OSError), self._lock:  # OSError: the terminal is gone; the work goes on
            begins = phase not in self._tasks
            if begins:
                for previous in self._tasks.values():
                    self.bars.stop_task(previous)
                self._tasks[phase] = self.bars.add_task(phase, total=total or None)
            self.bars.update(self._tasks[phase], completed=done, total=total or None)
            if self.bars.disable:
                self._log(phase, begins)

    def _log(self, phase: str, begins: bool) -> None:
        task, now_s = self.bars.tasks[self._tasks[phase]], self.bars.get_time()
        if begins:
            self._screen.say(f"{phase} ...")
        elif now_s >= self._next_line_s and not task.finished:
            left = "" if task.time_remaining is None else f", {format_seconds(task.time_remaining)} left"
            self._screen.say(f"{phase}: {task.percentage:.0f} %, {format_seconds(task.elapsed or 0)}{left}")
        else:
            return
        self._next_line_s = now_s + _LINE_EVERY_S


@contextmanager
def progress_on(screen: Screen) -> Iterator[Progress]:
    """Show progress on a screen until the block ends.

    Args:
        screen: Where to draw. Whatever else is printed while the bars are shown must go through the same screen.

    Yields:
        A function to call with the phase's name, the amount done and the total, in any unit.
    """
    phases = _Phases(screen)
    with contextlib.suppress(OSError):
        phases.bars.start()
    try:
        yield phases.report
    finally:
        with contextlib.suppress(OSError):
            phases.bars.stop()
