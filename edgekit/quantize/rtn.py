"""Round-to-nearest quantization: each block's scale (and zero point) by least squares, over the rows of a weight.

The search itself is native (``native/src/quantize.cpp``, which explains it); this is its Python face. Rows are
independent, so a caller may quantize a matrix in row chunks, on as many threads as it likes: ctypes drops the GIL.
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
        row, column: Where the first one stands, in the rows given.
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
        scale_dtype: ``float32`` or ``float16``: how scales are stored; codes are chosen for the stored scale.

    Returns:
        The packed rows; the same input gives the same bytes on every machine.

    Raises:
        NonFiniteError: A weight is NaN, or larger than 1e30 (with float16 scales: than 65504).
        ValueError: A dtype that is not supported.
    """
    if rows.dtype not in _DTYPES or rows.ndim != 2:
        raise ValueError(f"rows are {rows.dtype} with {rows.ndim} axes; need 2 axes of float32, float16 or bfloat16")
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
        raise ValueError(f"ek_quantize_rows refused ({n}, {k}) with {scheme}: status {status}")
    return PackedLinear(scheme, n, k, codes, scales, zero_points)
