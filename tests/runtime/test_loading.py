"""Loading an artifact: what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_artifact import rewrite_manifest, write_tiny_artifact

from edgekit.errors import ArtifactError
from edgekit.runtime.loading import load


def test_loading_something_else_than_an_artifact_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a folder"):
        load(tmp_path / "missing")
    with pytest.raises(ArtifactError, match="not an edgekit artifact"):
        load(tmp_path)


def test_invalid_sampling_settings_in_a_manifest_are_an_error(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    rewrite_manifest(folder, sampling={"temperature": -1})
    with pytest.raises(ArtifactError, match="temperature is -1"):
        load(folder)
