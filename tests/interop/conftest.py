"""Other people's software lives in environments of its own: its pins clash with ours and it is heavy.

``EDGEKIT_INTEROP_PYTHON`` names that environment's interpreter; ``.ci/run`` makes it. Without it these tests are
skipped, except in CI, where a skip would hide a failure. The same goes for ``EDGEKIT_GPTQMODEL_PYTHON`` and
``EDGEKIT_AUTOGPTQ_PYTHON``, whose pins clash with each other's, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

HERE = Path(__file__).parent


# GPTQModel refuses two cores unless told; its extension and torch.compile's code would be compiled at first use, which
# takes minutes and changes no result.
GPTQMODEL_SETTINGS = {"GPTQMODEL_CPU_WORKERS": "2", "GPTQMODEL_DISABLE_PACK_EXT": "1", "TORCHDYNAMO_DISABLE": "1"}


@pytest.fixture(scope="session")
def interop() -> Callable[..., str]:
    """``interop(script, *arguments)`` runs a script of this folder there and returns what it printed."""
    return _environment("EDGEKIT_INTEROP_PYTHON")


@pytest.fixture(scope="session")
def gptqmodel() -> Callable[..., str]:
    """As ``interop``, in GPTQModel's environment."""
    return _environment("EDGEKIT_GPTQMODEL_PYTHON", GPTQMODEL_SETTINGS)


@pytest.fixture(scope="session")
def autogptq() -> Callable[..., str]:
    """As ``interop``, in AutoGPTQ's environment."""
    return _environment("EDGEKIT_AUTOGPTQ_PYTHON")


def _environment(variable: str, settings: Mapping[str, str] = MappingProxyType({})) -> Callable[..., str]:
    python = os.environ.get(variable)
    if not python:
        if os.environ.get("CI"):
            pytest.fail(f"{variable} is not set: CI runs the interop tests")
        pytest.skip(f"{variable} is not set; .ci/run makes that environment")

    def run(script: str, *arguments: Any) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            [python, HERE / script, *map(str, arguments)],
            capture_output=True, text=True, env={**environment, **settings, "HF_HUB_OFFLINE": "1"}, timeout=1200,
            cwd=tempfile.gettempdir(),  # GPTQModel leaves a folder of logs where it runs
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
