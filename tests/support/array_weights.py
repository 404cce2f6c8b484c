"""Weights of a model in memory, as a source of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tiny_checkpoint import random_tensors, tiny_config

from edgekit.models import ModelSpec, spec_from_config
from edgekit.models.spec import TensorRef
from edgekit.quantize.packing import PackedLinear
from edgekit.scheme import QuantizationScheme


class ArrayWeights:
    """A :class:`~edgekit.weights.source.WeightSource` that reads from arrays.

    Args:
        tensors: The model's tensors under Hugging Face's names.

    Attributes:
        reads: (tensor name, first row, last row + 1) of each read, in order.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self._tensors = tensors
        self.reads: list[tuple[str, int, int]] = []

    def rows(self, ref: TensorRef, start: int, stop: int) -> np.ndarray:
        self.reads.append((ref.name, start, stop))
        return self._tensors[ref.name][start:stop].copy()

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        return None

    def release(self) -> None:
        pass


def tiny_weights(family: str, **config: Any) -> tuple[dict[str, np.ndarray], ModelSpec]:
    """Random tensors of a tiny model, float32, and its spec; ``config`` overrides keys of its config.json."""
    whole = tiny_config(family, **config)
    return random_tensors(whole), spec_from_config(whole)
