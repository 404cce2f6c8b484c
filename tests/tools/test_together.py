"""The times of steps of several sequences (``tools/together.py``)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shared_models import SharedModels

ROOT = Path(__file__).parents[2]


def test_it_times_steps_of_one_to_sixteen_sequences(models: SharedModels) -> None:
    artifact = models.artifact("qwen2", "int4 block 32")
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "together.py", artifact, "--threads", "1", "--context", "200"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps, _, long = done.stdout.rpartition("\n\n")
    heading, *rows = (line.split() for line in steps.splitlines())
    assert heading[0] == "sequences"
    assert [int(row[0]) for row in rows] == [1, 2, 4, 8, 16]
    assert float(rows[0][2]) == 1.0
    assert all(float(number) > 0 for row in rows for number in row)
    assert long.startswith("tok/s with an empty context ")
    assert "after 200 tokens" in long
