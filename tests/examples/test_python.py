from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_artifact import write_tiny_artifact

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def test_every_example_has_a_test() -> None:
    names = {path.stem for path in EXAMPLES.iterdir() if not path.name.startswith(("_", "."))}
    assert {name for name in names if not (ROOT / "tests" / "examples" / f"test_{name}.py").is_file()} == set()


@pytest.mark.parametrize("reasoning", [False, True])
def test_an_app_answers_in_ten_lines(tmp_path: Path, reasoning: bool) -> None:
    artifact = write_tiny_artifact(tmp_path / "tiny", reasoning=reasoning)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "python" / "chat.py", artifact, "What is the capital of France?"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    answer, _, figures = done.stdout.decode("utf-8").rpartition("\n[")
    assert " tokens, the first after " in figures
    assert bool(answer) is not reasoning  # this model never ends its thought


def test_the_example_is_as_short_as_it_says() -> None:
    code = (EXAMPLES / "python" / "chat.py").read_text(encoding="utf-8").split('"""')[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
