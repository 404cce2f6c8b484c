"""The float weights of a checkpoint: names matched, shapes checked, GGUF's interleaved q and k rows put in order.

Every tensor of the checkpoint is used by the model or named in an error, and so is every tensor that is missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint.base import Checkpoint
from ..models.spec import ModelSpec, TensorRef
from .source import WeightSource
from .tensors import check_tensors, stored_name


class CheckpointWeights(WeightSource):
    """A checkpoint as a :class:`~edgekit.weights.source.WeightSource`.

    Args:
        checkpoint: Open for reading.
        spec: The model that its config describes.

    Raises:
        CheckpointError: The checkpoint does not hold this model; see :func:`~edgekit.weights.tensors.check_tensors`.
    """

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec) -> None:
        self._checkpoint = checkpoint
        self._gguf = checkpoint.format == "gguf"
        check_tensors(checkpoint, spec)

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """See :meth:`WeightSource.rows`; in the stored float type, from GGUF as float32."""
        name = stored_name(ref, self._gguf)
        if not (self._gguf and ref.interleaved_heads):
            return self._checkpoint.rows(name, start, stop)
        # GGUF row (head, pair, half) is Hugging Face row (head, half, pair): read whole heads and reorder them.
        head_dim = ref.shape[0] // ref.interleaved_heads
        first, last = start // head_dim, -(-stop // head_dim)
        stored: NDArray[Any] = self._checkpoint.rows(name, first * head_dim, last * head_dim)
        heads = stored.reshape(last - first, head_dim // 2, 2, *stored.shape[1:])
        ordered: NDArray[Any] = heads.swapaxes(1, 2).reshape(stored.shape)
        return ordered[start - first * head_dim : stop - first * head_dim]
