"""Artifacts that the runtime's tests share and only read."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_artifact import write_tiny_artifact
from tiny_checkpoint import write_checkpoint

from edgekit.build.pipeline import build


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact."""
    return write_tiny_artifact(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def reasoning_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a template that ends the prompt inside a thought."""
    return write_tiny_artifact(tmp_path_factory.mktemp("reasoning"), reasoning=True)


@pytest.fixture(scope="session")
def built_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact as the builder writes it, quantized."""
    folder = tmp_path_factory.mktemp("built")
    return build(None, "cpu", checkpoint=write_checkpoint(folder / "tiny", "llama"), out=folder / "out").artifact
