"""Round-to-nearest quantization. A least-squares search chooses each block's scale (and zero point).

The search is native code and is explained there (``native/src/quantize.cpp``). Rows are independent, so a caller can
quantize chunks of rows on several threads: ctypes releases the GIL.
"""

from __future__ import annotations

import ctypes

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .. import native
from ..scheme import QuantizationScheme
from .packing import PackedLinear

_DTYPES = {
    np.dtype(np.float32): native.FLOAT32,
    np.dtype(np.float16): native.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): native.BFLOAT16,
}


class NonFiniteError(ValueError):
    """A weight that is NaN, infinite, or too large to be quantized.

    Args:
        row, column: Position of the first such weight in the given rows.
        value: The weight.
    """

    def __init__(self, row: int, column: int, value: float) -> None:
        super().__init__(f"{value:g} at row {row}, column {column}")
        self.row, self.column, self.value = row, column, value


def quantize_rows(rows: NDArray[np.generic], scheme: QuantizationScheme, scale_dtype: str) -> PackedLinear:
    """Quantize rows of a weight to nearest.

    Args:
        rows: (n, in) float32, float16 or bfloat16.
        scheme: Width, block size, symmetric or with zero points.
        scale_dtype: Storage type of the scales, ``float32`` or ``float16``. Codes are chosen for the stored scales.

    Returns:
        The packed rows. The same input gives the same bytes on every machine.

    Raises:
        NonFiniteError: A weight is NaN, or larger than 1e30 (65504 with float16 scales).
        ValueError: The dtype or shape is not supported.
    """
    if rows.dtype not in _DTYPES or rows.ndim != 2:
        raise ValueError(
            f"the rows are {rows.dtype} with {rows.ndim} axes; expected 2 axes of float32, float16 or bfloat16"
        )
    rows = np.ascontiguousarray(rows)
    n, k = rows.shape
    codes = np.empty(scheme.codes_shape(n, k), np.uint8)
    scales = np.empty(scheme.scales_shape(n, k), np.dtype(scale_dtype))
    zero_shape = scheme.zero_points_shape(n, k)
    zero_points = None if zero_shape is None else np.empty(zero_shape, np.uint8)
    bad = ctypes.c_int64(-1)
    status = native.library().ek_quantize_rows(
        rows.ctypes.data, _DTYPES[rows.dtype], n, k, scheme.bits, scheme.block_size, int(scheme.symmetric),
        native.FLOAT32 if scales.dtype == np.float32 else native.FLOAT16,
        codes.ctypes.data, scales.ctypes.data, None if zero_points is None else zero_points.ctypes.data,
        ctypes.byref(bad),
    )  # fmt: skip
    if status == native.NON_FINITE:
        row, column = divmod(bad.value, k)
        raise NonFiniteError(row, column, float(rows[row, column]))
    if status != native.OK:
        raise ValueError(f"quantizing rows of shape ({n}, {k}) with {scheme}: {native.last_error()}")
    return PackedLinear(scheme, n, k, codes, scales, zero_points)
