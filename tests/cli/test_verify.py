from __future__ import annotations

from pathlib import Path

import pytest
from invoke import Invoke
from tiny_artifact import write_tiny_artifact


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_tiny_artifact(tmp_path / "tiny")


def test_a_whole_artifact(invoke: Invoke, artifact: Path) -> None:
    outcome = invoke("verify", artifact)
    assert outcome.exit_code == 0
    assert outcome.text.startswith("tiny: 5 files, ")
    found = invoke("verify", artifact, "--json").json()
    assert (found["verified"], found["files"]) == (True, 5)


def test_a_surplus_file_has_the_exit_code(invoke: Invoke, artifact: Path) -> None:
    (artifact / "extra").write_bytes(b"")
    outcome = invoke("verify", artifact)
    assert outcome.exit_code == 61
    assert "extra is not in the manifest" in outcome.stderr
    assert invoke("verify", artifact, "--json").json()["error"]["kind"] == "verification"
