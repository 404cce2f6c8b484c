"""Progress on terminals of several widths and in a log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each test runs a process on a terminal of its own

ROOT = Path(__file__).parents[2]
pty = pytest.importorskip("pty")

SCRIPT = """
import sys, threading, time
from edgekit.cli._output import open_screen, progress_bars
screen = open_screen(err=True)
with progress_bars(screen, quiet="quiet" in sys.argv) as progress:
    for phase in ("reading [x]", "writing"):
        for done in range(5):
            progress(phase, done, 4)
            time.sleep(1 if phase != "writing" and done == 1 else 0)
    if "print" in sys.argv:
        screen.say("a sentence in between")
    if "threads" in sys.argv:
        workers = [
            threading.Thread(target=lambda: [progress("together", n, 999) for n in range(1000)]) for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if "fail" in sys.argv:
        progress("failing", 0, 4)
        progress("failing", 1, 4)
        raise KeyboardInterrupt
    if "resume" in sys.argv:
        progress("resuming", 2, 4)
        time.sleep(1)
        progress("resuming", 3, 4)
print("finished")
"""


def _plain(text: str) -> str:
    """All lines that were on the screen at some time, without control sequences."""
    return re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")


def _in_terminal(*arguments: str, width: int = 90, read: int | None = None, **environment: str) -> str:
    """What a pseudo terminal on stderr receives; after ``read`` characters the terminal is closed."""
    main, side = pty.openpty()
    inherited = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stderr=side, stdout=subprocess.PIPE, cwd=ROOT,
        env={**inherited, "TERM": "xterm", "COLUMNS": str(width), **environment},
    )  # fmt: skip
    os.close(side)
    received = b""
    while read is None or len(received) < read:
        try:
            part = os.read(main, 4096)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        received += part
    os.close(main)
    finished, _ = process.communicate(timeout=60)
    if "fail" not in arguments:
        assert finished == b"finished\n"
    return received.decode("utf-8")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_phase_is_redrawn_and_then_stays(width: int) -> None:
    received = _in_terminal(width=width)
    lines = [line.rstrip() for line in _plain(received).split("\n")]
    assert max(map(len, lines)) <= width
    reading, writing = ([line for line in lines if line.startswith(name[:4])] for name in ("reading [x]", "writing"))
    assert any(re.search(r" 25 % 0:00:0. .* left$", line) for line in reading)
    assert re.search(r"━ 100 % 0:00:01 0:00:00 left$", reading[-1])
    assert re.search(r"━ 100 % 0:00:00 0:00:00 left$", writing[-1])


def test_the_cursor_comes_back_after_a_failure() -> None:
    received = _in_terminal("fail")
    assert received.count("\x1b[?25l") == received.count("\x1b[?25h") == 1
    assert re.search(r"failing .* 25 % ", _plain(received))
    assert received.index("\x1b[?25h") < received.index("Traceback")


def test_text_printed_meanwhile_stands_above_the_bars() -> None:
    received = _plain(_in_terminal("print"))
    assert re.search(r"^a sentence in between$", received, re.MULTILINE)
    assert received.rindex("writing") > received.index("a sentence in between")


def test_the_rate_counts_only_the_work_that_was_seen() -> None:
    found = re.findall(r"resuming .* 75 % 0:00:01 (\S+) left", _plain(_in_terminal("resume")))
    assert found[-1] in ("0:00:01", "0:00:02"), "one of four took a second and one is left; rich rounds up"


def test_reports_may_come_from_several_threads() -> None:
    assert re.search(r"together .*100 %", _plain(_in_terminal("threads")))


def test_work_continues_when_the_terminal_is_gone() -> None:
    _in_terminal("threads", read=200)


def test_no_color_has_no_colours() -> None:
    received = _in_terminal(NO_COLOR="1")
    assert not re.search("\x1b\\[[0-9;]+m", received)
    assert "100 %" in received
    assert re.search("\x1b\\[[0-9;]+m", _in_terminal())


def test_a_log_gets_a_line_per_phase() -> None:
    assert _in_terminal(TERM="dumb").replace("\r", "") == "reading [x] ...\nwriting ...\n"
    piped = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (piped.stderr, piped.stdout) == ("reading [x] ...\nwriting ...\n", "finished\n")


def test_a_log_of_long_work_gets_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgekit.cli._output import open_screen, progress_bars

    screen, seconds = open_screen(err=True), 0.0
    monkeypatch.setattr(screen, "get_time", lambda: seconds)
    with progress_bars(screen) as progress:
        for done in range(0, 25, 5):
            progress("quantizing", done, 40)
            seconds += 30
    assert capsys.readouterr().err.splitlines() == [
        "quantizing ...",
        "quantizing: 25 %, 1 min 00 s, 3 min 00 s left",
        "quantizing: 50 %, 2 min 00 s, 2 min 00 s left",
    ]


def test_quiet_shows_nothing() -> None:
    assert _in_terminal("quiet") == ""


def test_ctrl_c_leaves_the_terminal_as_it_was() -> None:
    """A real Ctrl-C, typed on the terminal that shows the bars."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("time.sleep(1 ", "time.sleep(20 ")],
        stdin=side, stderr=side, stdout=subprocess.DEVNULL, cwd=ROOT, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env={**os.environ, "TERM": "xterm", "COLUMNS": "90"},
    )  # fmt: skip
    os.close(side)
    received = b""
    while "reading" not in received.decode("utf-8", errors="replace"):
        received += os.read(main, 4096)
    process.send_signal(signal.SIGINT)
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:
            break
        if not part:
            break
        received += part
    process.wait(timeout=60)
    os.close(main)
    assert b"KeyboardInterrupt" in received
    assert received.count(b"\x1b[?25l") == received.count(b"\x1b[?25h") == 1
