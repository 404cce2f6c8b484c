"""Other people's software lives in an environment of its own: its pins clash with ours and it is heavy.

``EDGEKIT_INTEROP_PYTHON`` names that environment's interpreter; ``.ci/run`` makes it. Without it these tests are
skipped, except in CI, where a skip would hide a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def interop() -> Callable[..., str]:
    """``interop(script, *arguments)`` runs a script of this folder there and returns what it printed."""
    python = os.environ.get("EDGEKIT_INTEROP_PYTHON")
    if not python:
        if os.environ.get("CI"):
            pytest.fail("EDGEKIT_INTEROP_PYTHON is not set: CI runs the interop tests")
        pytest.skip("EDGEKIT_INTEROP_PYTHON is not set; .ci/run makes that environment")

    def run(script: str, *arguments: Any) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            [python, HERE / script, *map(str, arguments)],
            capture_output=True, text=True, env={**environment, "HF_HUB_OFFLINE": "1"}, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def greedy(interop: Callable[..., str]) -> Callable[..., list[int]]:
    """``greedy("genai" | "optimum", artifact, prompt ids, count)`` -> new ids by that software."""

    def run(engine: str, artifact: Path, ids: list[int], count: int) -> list[int]:
        return json.loads(interop(f"{engine}_greedy.py", artifact, json.dumps(ids), count).splitlines()[-1])

    return run
