"""Signals end a command that writes files without leaving anything behind, also the second one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.cli._signals import ends_cleanly

# Makes a temporary folder, says so, and ends in the way that a build does; its removal takes a while.
SCRIPT = """
import signal, sys, time
from pathlib import Path
from edgekit import leftovers
from edgekit.cli._signals import ends_cleanly

signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup and shells make programs in the background ignore them
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)

@ends_cleanly
def command(folder):
    try:
        with leftovers.locked_folder(Path(folder), ".x.partial-") as made:
            (made / "file").write_text("content")
            try:
                print("begun", flush=True)
                time.sleep(60)
            finally:
                print("ending", flush=True)
                if sys.argv[2] == "slow":
                    time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)

command(sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("second", [None, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left(tmp_path: Path, number: signal.Signals, second: signal.Signals | None) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "slow" if second else "quick"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.stdout.readline() == "ending\n"
        if second is not None:
            process.send_signal(second)
        assert process.wait(timeout=20) == 130
        assert ("interrupted twice" in process.stderr.read()) is (second is not None)
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored_and_handlers_are_restored() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    seen = []

    @ends_cleanly
    def command(value: int) -> int:
        seen.extend(signal.getsignal(number) for number in numbers)
        return value + 1

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what runs in the background
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert command(1) == 2
        assert seen[2] == signal.SIG_IGN
        assert seen[0] == seen[1] != signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
