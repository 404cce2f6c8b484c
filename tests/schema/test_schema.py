"""Files from outside that are damaged or hostile: see tests/support/mutation_trials.py, which also runs thousands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_mutated_files_end_in_success_or_in_an_error(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS / "support")])
    program = TESTS / "support" / "mutation_trials.py"
    done = subprocess.run(
        [sys.executable, str(program), "--trials", "72", "--seed", "20", "--work", str(tmp_path / "work")],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "72 trials" in done.stdout
