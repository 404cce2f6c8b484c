"""Bars for long work on a terminal: one line per phase, redrawn in place until the next phase begins."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from ..units import format_seconds

_REDRAW_S = 0.1
_LABEL_WIDTH = 28  # of most phases' names; keeps the bars below one another
_TIMING_WIDTH = len("59.9 s, 9 min 59 s left")
_BAR_WIDTH = 40
_REWRITE = "\r{}\x1b[K"  # over what stands on the line, and erase the rest of it


@dataclass
class _Phase:
    """What was reported of a phase; times are of ``time.monotonic``."""

    name: str
    done: float
    total: float
    started_s: float
    reported_s: float
    done_at_start: float

    @property
    def share(self) -> float:
        return min(max(self.done / self.total, 0), 1) if self.total > 0 else 0

    def line(self, now_s: float, width: int, *, ended: bool) -> str:
        """The phase in fewer than ``width`` characters; without a bar where there is no room for one."""
        complete = self.share == 1
        elapsed_s = (self.reported_s if complete else now_s) - self.started_s
        timing = format_seconds(elapsed_s)
        if not complete and not ended and self.done > self.done_at_start:
            # At the rate so far. Elapsed since the report counts, so that work that stalls is not promised.
            left_s = elapsed_s * (self.total - self.done) / (self.done - self.done_at_start)
            timing += f", {format_seconds(left_s)} left"
        tail = f" {math.floor(100 * self.share):3} %  {timing:<{_TIMING_WIDTH}}"
        room = width - 1 - len(tail)
        label = f"{self.name:<{_LABEL_WIDTH}} "[: max(room, 0)]
        cells = min(_BAR_WIDTH, room - len(label))
        full = math.floor(cells * self.share)
        colour = "green" if complete else "yellow" if ended else "blue"
        bar = click.style("━" * full, fg=colour) + click.style("─" * (cells - full), dim=True) if cells > 0 else ""
        return label + bar + tail.rstrip() if room > 0 else tail.strip()[: width - 1]


class Bars:
    """Draws the phases it is told of. Reports may come from any thread; a thread of its own draws.

    So the time goes on while the work says nothing, and reports cost next to nothing. A phase's last state stays as a
    line when the next phase begins; what is still reported of it afterwards is not shown.

    Args:
        write: Puts text on the terminal as it is.
        width: Tells how wide the terminal is now.
    """

    def __init__(self, write: Callable[[str], None], width: Callable[[], int]) -> None:
        self._write, self._width = write, width
        self._lock = threading.Lock()
        self._phase: _Phase | None = None
        self._seen: set[str] = set()
        self._closed = threading.Event()
        self._drawer = threading.Thread(target=self._draw_on, name="progress bars", daemon=True)
        self._drawer.start()

    def report(self, phase: str, done: float, total: float) -> None:
        """A :class:`~edgekit.cli._output.ProgressReport`."""
        now_s = time.monotonic()
        with self._lock:
            current = self._phase
            if current is not None and current.name == phase:
                current.done, current.total, current.reported_s = done, total, now_s
            elif phase not in self._seen:
                self._end_line(now_s)
                self._seen.add(phase)
                self._phase = _Phase(phase, done, total, now_s, now_s, done)
                self._draw(now_s)

    def close(self) -> None:
        """Leave the last phase as a line, also when the work failed in the middle of it."""
        self._closed.set()
        self._drawer.join()
        with self._lock:
            self._end_line(time.monotonic())

    def _draw_on(self) -> None:
        while not self._closed.wait(_REDRAW_S):
            with self._lock:
                self._draw(time.monotonic())

    def _draw(self, now_s: float, *, ended: bool = False) -> None:
        if self._phase is not None:
            line = _REWRITE.format(self._phase.line(now_s, self._width(), ended=ended))
            with contextlib.suppress(OSError):  # when the terminal is gone, the work goes on without it
                self._write(line + "\n" if ended else line)

    def _end_line(self, now_s: float) -> None:
        if self._phase is not None:
            self._draw(now_s, ended=True)
            self._phase = None
