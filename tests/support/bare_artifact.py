"""A model as the exporter writes it, without the other files of an artifact: enough for a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from array_weights import ArrayWeights

from edgekit.artifact.manifest import RuntimeFacts
from edgekit.export.model import export_model
from edgekit.models import ModelSpec
from edgekit.quality.compare import Comparison, Passage, compare
from edgekit.scheme import QuantizationConfig
from edgekit.weights.source import WeightSource


class BareArtifact:
    """An exported model.

    Args:
        folder: A new folder for it.
        source: The weights.
        spec: The model.
        formats: Formats; rounded to nearest.
        activation_type: ``float32`` or ``float16``.
        context: Positions that the graph holds.
        quantization: What its manifest would say about the quantization.
    """

    def __init__(
        self, folder: Path, source: WeightSource, spec: ModelSpec, formats: QuantizationConfig,
        activation_type: str = "float32", *, context: int = 128, **quantization: Any,
    ) -> None:  # fmt: skip
        folder.mkdir()
        export_model(folder, spec, source, formats, activation_type=activation_type, max_context=context, threads=1)
        self._folder = folder
        self._facts = RuntimeFacts(
            name="tiny", model={"context_length": context}, plan={}, quantization=quantization,
            activation_type=activation_type, reasoning=False, sampling={}, tokens={},
        )  # fmt: skip

    def compare(
        self, tensors: Mapping[str, np.ndarray], spec: ModelSpec, passages: list[Passage], **options: Any
    ) -> Comparison:
        """Compare with a float model."""
        return compare(self._folder, self._facts, ArrayWeights(tensors), spec, passages, 1, **options)
