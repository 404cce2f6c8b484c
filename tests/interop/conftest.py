"""Runs other projects' software in separate environments, because it is large and its pins conflict with edgekit's.

``EDGEKIT_INTEROP_PYTHON`` is the interpreter of that environment, which ``.ci/run`` creates. Without it these tests are
skipped; in CI they fail, because a skip would hide a failure. ``EDGEKIT_GPTQMODEL_PYTHON``,
``EDGEKIT_AUTOGPTQ_PYTHON`` and ``EDGEKIT_CLIENTS_PYTHON`` are used in the same way; their pins conflict, too.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import pytest

HERE = Path(__file__).parent


# GPTQModel refuses to run on two cores without this setting. Compiling its extension and torch.compile's code on first
# use would take minutes and not change the results.
GPTQMODEL_SETTINGS = {"GPTQMODEL_CPU_WORKERS": "2", "GPTQMODEL_DISABLE_PACK_EXT": "1", "TORCHDYNAMO_DISABLE": "1"}


@pytest.fixture(scope="session")
def interop() -> Callable[..., str]:
    """``interop(script, *arguments)`` runs a script of this folder in that environment and returns its output."""
    return _environment("EDGEKIT_INTEROP_PYTHON")


@pytest.fixture(scope="session")
def gptqmodel() -> Callable[..., str]:
    """Like ``interop``, in GPTQModel's environment."""
    return _environment("EDGEKIT_GPTQMODEL_PYTHON", GPTQMODEL_SETTINGS)


@pytest.fixture(scope="session")
def autogptq() -> Callable[..., str]:
    """Like ``interop``, in AutoGPTQ's environment."""
    return _environment("EDGEKIT_AUTOGPTQ_PYTHON")


@pytest.fixture(scope="session")
def clients() -> Callable[..., str]:
    """Like ``interop``, in the environment of the server's clients; ``-mNAME`` runs a module."""
    return _environment("EDGEKIT_CLIENTS_PYTHON")


def _environment(variable: str, settings: Mapping[str, str] = MappingProxyType({})) -> Callable[..., str]:
    python = os.environ.get(variable)
    if not python:
        if os.environ.get("CI"):
            pytest.fail(f"{variable} is not set: CI runs the interop tests")
        pytest.skip(f"{variable} is not set; .ci/run creates that environment")

    def run(script: str, *arguments: Any) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        with TemporaryDirectory() as scratch:  # GPTQModel writes logs to the current folder
            done = subprocess.run(
                [python, script if script.startswith("-m") else HERE / script, *map(str, arguments)],
                capture_output=True, text=True, env={**environment, **settings, "HF_HUB_OFFLINE": "1"}, timeout=1200,
                cwd=scratch,
            )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def greedy(interop: Callable[..., str]) -> Callable[..., list[int]]:
    """``greedy("genai" | "optimum", artifact, prompt ids, count)`` returns the ids that this software generates."""

    def run(engine: str, artifact: Path, ids: list[int], count: int) -> list[int]:
        return json.loads(interop(f"{engine}_greedy.py", artifact, json.dumps(ids), count).splitlines()[-1])

    return run
