"""A tiny checkpoint exported in several ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_checkpoint import write_checkpoint

from edgekit.checkpoint import open_checkpoint
from edgekit.export.model import export_model
from edgekit.layout import DataLayout
from edgekit.models import ModelSpec, spec_from_config
from edgekit.scheme import QuantizationConfig
from edgekit.weights.checkpoint import CheckpointWeights

Export = Callable[..., tuple[Path, ModelSpec, DataLayout]]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """``export(family, quantization, activation_type="float32", **config)`` -> folder, spec, layout."""

    def run(
        family: str, quantization: QuantizationConfig, activation_type: str = "float32", **config: object
    ) -> tuple[Path, ModelSpec, DataLayout]:
        source = write_checkpoint(tmp_path / "checkpoint", family, **config)
        folder = tmp_path / "export"
        folder.mkdir()
        with open_checkpoint(source) as opened:
            spec = spec_from_config(opened.config)
            layout = export_model(
                folder, spec, CheckpointWeights(opened, spec), quantization,
                activation_type=activation_type, max_context=64, threads=2,
            )  # fmt: skip
        return folder, spec, layout

    return run
