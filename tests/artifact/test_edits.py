"""Random edits anywhere in an artifact are seen: a short form of tests/support/edit_artifacts.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from edit_artifacts import EDITS, edit_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.signature import make_keys, sign


@pytest.mark.parametrize("signed", [False, True])
def test_every_edit_is_seen(built_artifact: Path, tmp_path: Path, signed: bool) -> None:
    artifact = shutil.copytree(built_artifact, tmp_path / "artifact")
    if signed:
        pytest.importorskip("cryptography")
        make_keys(tmp_path / "key")
        sign(artifact, str(read_manifest(artifact).digest), tmp_path / "key")
    (tmp_path / "work").mkdir()
    seen, wrong = edit_artifact(artifact, tmp_path / "work", 80, seed=3)
    assert wrong == []
    assert len(seen) >= len(EDITS)
