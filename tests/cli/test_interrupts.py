"""Signals end a command in order, and in the middle of an import they wait for its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM")])
def test_ctrl_c_does_not_replace_a_signal_that_ends_the_process(tmp_path: Path, first: str, second: str) -> None:
    (tmp_path / "slow.py").write_text(MODULE)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "0.05", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.Signals[first])
        time.sleep(0.1)  # signals that wait together come in the order of their numbers
        process.send_signal(signal.Signals[second])
        assert process.stdout.read() == "imported\n"
    assert process.returncode == 143


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


# The first line of a command's output says that it has begun.
RUN = """
import signal, sys
from edgekit.cli import cli, main
import click

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

@click.command()
def work():
    BODY

cli.get_command = lambda context, name: work
sys.argv = ["edgekit", "devices"]
main()
"""


def ends(body: str, number: int, **streams: int) -> tuple[int, str, str]:
    """Send a signal to a command that has begun; its exit code and what it prints then."""
    command = [sys.executable, "-c", RUN.replace("BODY", body.strip().replace("\n", "\n    "))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **streams
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        output, errors = process.stdout.read(), process.stderr.read()
    return process.returncode, output, errors


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "error: interrupted\n"),
        (signal.SIGTERM, 143, "error: terminated\n"),
        (signal.SIGHUP, 129, "error: terminated\n"),
    ],
)
def test_a_signal_ends_a_command_in_order(number: int, code: int, said: str) -> None:
    body = """
import time
try:
    print("begun", flush=True)
    time.sleep(60)
except Exception:
    print("an error")
finally:
    print("closed")
"""
    assert ends(body, number) == (code, "closed\n", said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_gets_its_settings_back(number: int) -> None:
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    body = """
import time
from edgekit.cli._live_answer import quiet_keys
with quiet_keys():
    print("begun", flush=True)
    time.sleep(60)
"""
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        assert ends(body, number, stdin=theirs) == (128 + number, "", "error: terminated\n")
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_the_work_does_not_change_the_exit_code(number: int) -> None:
    before = f"""
import atexit, os

@atexit.register
def after_mains_own():
    os.kill(os.getpid(), {int(number)})
    print("ended")
"""
    command = [sys.executable, "-c", before + RUN.replace("BODY", 'print("done")')]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\nended\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_command_line_is_imported_ends_without_a_traceback(number: int) -> None:
    program = """
import signal, sys, time
import edgekit.__main__
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

class Slow:
    def find_spec(self, name, path, target=None):
        if name == "edgekit.cli":
            print("begun", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
edgekit.__main__.main()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
    assert process.returncode == 128 + number


def test_sighup_is_sigterm_for_libraries_that_do_not_handle_it() -> None:
    body = """
import time
from edgekit.cli._interrupts import hangup_as_sigterm
try:
    with hangup_as_sigterm():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))
        print("begun", flush=True)
        time.sleep(60)
finally:
    print(signal.getsignal(signal.SIGHUP).__name__)
"""
    assert ends(body, signal.SIGHUP) == (3, "_handle\n", "")


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("first", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_second_signal_does_not_interrupt_the_message(first: int, said: str, second: int) -> None:
    body = f"""
import os, time
import edgekit.cli
printed = edgekit.cli.print_error
def print_error(*arguments, **options):
    os.kill(os.getpid(), {int(second)})
    printed(*arguments, **options)
edgekit.cli.print_error = print_error
print("begun", flush=True)
time.sleep(60)
"""
    assert ends(body, first) == (128 + first, "", f"error: {said}\n")
