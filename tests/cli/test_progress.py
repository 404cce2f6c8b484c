"""Progress bars: a phase's line, and what a pseudo terminal really gets from several threads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgekit.cli._progress import Bars, _Phase
from edgekit.cli._table import without_styles

ROOT = Path(__file__).parents[2]
pty = pytest.importorskip("pty")


def _line(done: float, total: float, *, width: int = 100, ended: bool = False, name: str = "quantizing") -> str:
    """A phase that began at second 10 with nothing done, seen at second 14."""
    phase = _Phase(name, done, total, started_s=10, reported_s=13, done_at_start=0)
    return without_styles(phase.line(14, width, ended=ended))


def test_a_line_has_share_elapsed_and_remaining_time() -> None:
    line = _line(25, 100, width=120)
    assert line.startswith("quantizing" + " " * 19 + "━" * 10 + "─" * 30 + "  25 %  4.0 s, 12.0 s left")


def test_a_complete_phase_shows_how_long_its_work_took() -> None:
    assert re.fullmatch("quantizing +━+ 100 %  3.0 s", _line(100, 100))


def test_an_interrupted_phase_shows_how_far_it_came() -> None:
    assert re.fullmatch("quantizing +━+─+  99 %  4.0 s", _line(99.9, 100, ended=True))


def test_no_time_is_promised_before_anything_is_done() -> None:
    for done, total in ((0, 100), (0, 0)):
        assert _line(done, total).endswith("  0 %  4.0 s")


def test_the_rate_is_that_of_the_work_seen() -> None:
    resumed = _Phase("download", done=75, total=100, started_s=10, reported_s=14, done_at_start=50)
    assert resumed.line(14, 100, ended=False).endswith("75 %  4.0 s, 4.0 s left")


@pytest.mark.parametrize("width", [1, 5, 20, 40, 64, 80, 200])
@pytest.mark.parametrize("name", ["hashing", "download deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"])
@pytest.mark.parametrize(("total", "end"), [(3, " 33 %  4.0 s, 8.0 s left"), (10000, "  0 %  4.0 s, 11 h 06 min left")])
def test_a_line_never_reaches_the_edge(width: int, name: str, total: float, end: str) -> None:
    line = _line(1, total, width=width, name=name)
    assert len(line) < width
    assert width < 40 or (line.endswith(end) and line.startswith(name[:5]))


def test_reports_from_threads_are_all_taken_and_a_phase_has_one_line() -> None:
    written: list[str] = []
    bars = Bars(written.append, lambda: 80)
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for done in range(1000):
            bars.report("one", done, 999)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    bars.report("two", 0, 2)
    bars.report("one", 5, 999)  # late: its line is finished
    bars.report("two", 1, 2)
    bars.close()
    first, second, _ = without_styles("".join(written)).split("\n")
    assert re.search(r"\rone +━+ 100 %  [\d.]+ m?s\x1b\[K$", first)
    assert re.search(r"\rtwo +━+─+  50 %  [\d.]+ m?s\x1b\[K$", second)
    assert len(written) < 100, "redraws are throttled"


def test_a_terminal_that_is_gone_does_not_end_the_work() -> None:
    tried: list[str] = []

    def gone(text: str) -> None:
        tried.append(text)
        raise OSError(5, "Input/output error")

    bars = Bars(gone, lambda: 80)
    bars.report("one", 0, 1)
    bars.report("two", 1, 1)
    bars.close()
    assert tried, "the bars were written, and the work went on when that failed"


SCRIPT = """
import sys, time
from edgekit.cli._output import progress_bars
with progress_bars(quiet="quiet" in sys.argv) as progress:
    for phase in ("reading", "writing"):
        for done in range(5):
            progress(phase, done, 4)
            time.sleep(0.15)
    if "fail" in sys.argv:
        progress("failing", 1, 4)
        raise KeyboardInterrupt
"""


def _in_terminal(*arguments: str, **environment: str) -> str:
    """What a pseudo terminal on stderr receives."""
    main, side = pty.openpty()
    inherited = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stderr=side, stdout=subprocess.DEVNULL, cwd=ROOT, env={**inherited, "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(side)
    received = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        received += part
    process.wait(timeout=60)
    os.close(main)
    return received.decode("utf-8").replace("\r\n", "\n")


def test_on_a_terminal_a_phase_is_redrawn_and_then_stays() -> None:
    received = _in_terminal(COLUMNS="90")
    assert "\x1b[32m" in received
    first, second, rest = without_styles(received).split("\n")
    assert rest == ""
    for line, phase in ((first, "reading"), (second, "writing")):
        frames = line.split("\r")[1:]
        assert len(frames) > 5
        assert all(frame.startswith(phase) and frame.endswith("\x1b[K") and len(frame) < 93 for frame in frames)
        assert any(" left" in frame for frame in frames)
        assert "100 %" in frames[-1]


def test_a_failure_leaves_the_line_complete() -> None:
    lines = without_styles(_in_terminal("fail")).split("\n")
    assert re.search(r"failing .* 25 %  [\d.]+ m?s\x1b\[K$", lines[2])
    assert lines[3].startswith("Traceback")


def test_no_color_has_no_colours() -> None:
    received = _in_terminal(NO_COLOR="1")
    assert received == without_styles(received)
    assert "100 %" in received


def test_where_there_is_nothing_to_redraw_a_phase_is_one_plain_line() -> None:
    assert _in_terminal(TERM="dumb") == "reading ...\nwriting ...\n"
    piped = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (piped.stderr, piped.stdout) == ("reading ...\nwriting ...\n", "")


def test_quiet_says_nothing() -> None:
    assert _in_terminal("quiet") == ""
