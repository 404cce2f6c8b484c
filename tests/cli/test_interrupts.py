"""Ctrl-C in the middle of an import waits for its end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timer for it")
SCRIPT = """
import signal, sys, time
from edgekit.cli import _interrupts

signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background may ignore it
folder, again_s, wait_s = sys.argv[1:]
_interrupts._AGAIN_S = float(again_s)
sys.path.insert(0, folder)
try:
    with _interrupts.raised_interrupts():
        import slow
        print("imported\\n", end="", flush=True)  # in one piece: the interrupt may come in the middle
        time.sleep(float(wait_s))
    print(signal.getitimer(signal.ITIMER_REAL)[0], "seconds left")
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""
MODULE = """
import time

print("begun", flush=True)
end = time.monotonic() + 0.4
try:
    while time.monotonic() < end:
        pass
except BaseException as error:
    print("broken", error, flush=True)
    raise
"""


@pytest.mark.parametrize(
    ("again_s", "wait_s", "expected", "code"),
    [(0.05, 60, "imported\ninterrupted\n", 130), (30, 0, "imported\n0.0 seconds left\n", 0)],
)
def test_an_import_is_finished_first(tmp_path: Path, again_s: float, wait_s: float, expected: str, code: int) -> None:
    (tmp_path / "slow.py").write_text(MODULE)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(again_s), str(wait_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == expected
    assert process.returncode == code


def test_outside_of_imports_it_comes_at_once_and_ignored_signals_stay_ignored() -> None:
    program = """
import os, signal
from edgekit.cli._interrupts import raised_interrupts
signal.signal(signal.SIGINT, signal.SIG_IGN)
with raised_interrupts():
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with raised_interrupts():
        assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
        os.kill(os.getpid(), signal.SIGINT)
    print("nothing")
except KeyboardInterrupt:
    print("interrupted")
assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "interrupted\n"
