"""The interface of a source of a model's tensors, and the checks that all its users share.

    CheckpointWeights     the checkpoint's float weights (``checkpoint.py``)
    CarriedWeights        the same, and the codes that a quantized checkpoint already holds (``carried.py``)
    ScaledWeights         another source's weights with scaled input features (``scaled.py``)
    RotatedWeights        another source's weights in another basis (``rotated.py``)
    ShrunkWeights         another source's weights with smaller activations (``shrunk.py``)

Sources are safe to read from several threads at once. Rows are read in pieces; no source holds a whole model.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import NonFiniteWeightError
from ..models.spec import ModelSpec, TensorRef
from ..quantize.packing import PackedLinear
from ..scheme import QuantizationScheme

_CHECKED_WEIGHTS = 4 << 20  # weights read at a time by check_finite


class WeightSource(Protocol):
    """Gives the rows of a model's tensors, in the order in which Hugging Face stores them."""

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """Read rows of a matrix, or elements of a vector.

        Args:
            ref: One of the model's tensors.
            start: First row.
            stop: One past the last row.

        Returns:
            (stop - start, in) or (stop - start,) in float32, float16 or bfloat16. The array is the caller's.

        Raises:
            CheckpointError: The tensor cannot be read.
        """
        ...

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        """Read rows of a weight that the checkpoint holds quantized, without quantizing them again.

        Args:
            ref: One of the model's matrices.
            start: First row.
            stop: One past the last row.
            scheme: How the rows are to be stored.

        Returns:
            The rows with scales in the checkpoint's float type, or None if the source has no codes for this weight.

        Raises:
            NonFiniteWeightError: A scale is NaN or infinite.
            ValueError: The scheme cannot hold the codes.
        """
        return None

    def release(self) -> None:
        """Free what the source has cached for the next read."""
        return


def check_finite(source: WeightSource, spec: ModelSpec) -> None:
    """Read every weight and look for NaN and infinity, to explain activations that are not finite.

    Raises:
        NonFiniteWeightError: A weight is NaN or infinite; the message names the first one.
    """
    for ref in spec.tensors():
        step = max(1, _CHECKED_WEIGHTS // (ref.shape[1] if len(ref.shape) > 1 else 1))
        for start in range(0, ref.shape[0], step):
            rows = source.rows(ref, start, min(start + step, ref.shape[0])).astype(np.float32)
            bad = np.argwhere(~np.isfinite(rows))
            if len(bad):
                first, *rest = map(int, bad[0])
                raise unusable_weight(ref, float(rows[tuple(bad[0])]), np.dtype(np.float32), start + first, *rest)


def unusable_weight(ref: TensorRef, value: float, dtype: np.dtype[Any], *index: int) -> NonFiniteWeightError:
    """Make the error for a weight that cannot be stored.

    Args:
        ref: The tensor.
        value: The weight's value.
        dtype: The type it was to be stored in.
        index: The weight's place in the tensor.
    """
    if np.isfinite(value):
        return NonFiniteWeightError(
            f"{ref.name} holds {value:g} at {list(index)}: too large for {dtype} weights",
            hint="build for a device whose activation type is float32" if dtype == np.float16 else "",
        )
    return NonFiniteWeightError(
        f"{ref.name} holds {value:g} at {list(index)}: weights must be finite",
        hint="the checkpoint is damaged: fetch it again",
    )
