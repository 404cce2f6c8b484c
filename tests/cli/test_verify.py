from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from invoke import Invoke
from tiny_artifact import write_tiny_artifact

VERSIONS = sorted((Path(__file__).parents[1] / "artifact" / "versions").glob("*.tar.xz"))


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


@pytest.mark.parametrize("archive", VERSIONS, ids=lambda path: path.name)
@pytest.mark.parametrize("engine", ["native", "ort"])
def test_artifacts_of_earlier_versions_are_whole_and_answer_as_they_did(
    tmp_path: Path, invoke: Invoke, archive: Path, engine: str
) -> None:
    """Each was built by the edgekit that its name says, from the tests' tiny qwen2 checkpoint with fewer columns."""
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            assert member.name.startswith("artifact")
            assert member.isdir() or member.isfile()
        packed.extractall(tmp_path)  # noqa: S202  checked above
    assert invoke("verify", tmp_path / "artifact").exit_code == 0
    checks = invoke("smoke", tmp_path / "artifact", "--engine", engine, "--json").json()["checks"]
    found = {check["name"]: check["verdict"] for check in checks}
    del found["memory"]  # this process has held other models
    assert set(found.values()) == {"pass"}, checks
    assert {"golden_tokens", "golden_logits"} <= found.keys()
