"""Builds that are killed, and whose power is cut: short forms of two programs in tests/support."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"


def run(program: str, *arguments: str) -> str:
    """Run a program of its own: it forks, and threads of earlier tests would not survive that."""
    command = [sys.executable, str(SUPPORT / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_killed_builds_leave_nothing_and_are_repeated() -> None:
    assert "6 kills, 0 faults" in run("kill_builds.py", "--kills", "6", "--way", "force", "--way", "gptq")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system lacks these signals")
def test_builds_that_are_told_to_end_leave_nothing() -> None:
    signals = ("--signal", "SIGTERM", "--signal", "SIGHUP", "--signal", "SIGINT,SIGINT")
    assert "6 kills, 0 faults" in run("kill_builds.py", "--kills", "6", "--way", "scaled", "--way", "gptq", *signals)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the recorder is for Linux")
def test_power_cuts_leave_the_old_artifact_or_the_new_one() -> None:
    arguments = ("--cuts", "40", "--repeats", "10", "--way", "force", "--way", "emit gptq")
    assert "40 cuts, 0 faults" in run("power_cuts.py", *arguments)
