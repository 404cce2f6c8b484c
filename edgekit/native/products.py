"""Single operations of the engine: a quantized product (``ek_multiply``) and attention (``ek_attend``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from . import FLOAT16, FLOAT32, OK, Matrix, last_error, library

MOST_HEAD_DIM = 256  # kernels.h, kMaxHeadDim


def multiply(
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32] | NDArray[np.float16],
    x: NDArray[np.float32],
    *,
    bits: int,
    block_size: int,
    zero_points: NDArray[np.uint8] | None = None,
    bias: NDArray[np.float32] | None = None,
    kernel: str | None = None,
    prefill: bool = False,
) -> NDArray[np.float32]:
    """Multiply activations with a matrix in the layout of MatMulNBits, drawn in ``quantize/packing.py``.

    Args:
        codes: uint8 (n, blocks, block_size * bits / 8).
        scales: float32 or float16 (n, blocks).
        x: float32 (m, k); rounded to int8 in groups of ``block_size`` columns.
        bits: 4 or 8.
        block_size: 32, 64 or 128.
        zero_points: uint8 (n, ceil(blocks * bits / 8)); None: 2^(bits-1).
        bias: float32 (n,).
        kernel: The name of an instruction set; None: the fastest one this processor supports.
        prefill: Use the prefill code for any m. By default, the decode code is used for m up to 16.

    Returns:
        float32 (m, n).

    Raises:
        EngineError: This processor does not support the kernel, or an argument is out of range.
        ValueError: The shapes of two arrays contradict each other.
    """
    (n, blocks), (m, k) = scales.shape, x.shape
    shapes = {
        "codes": (codes.shape, (n, blocks, block_size * bits // 8)),
        "columns of x in blocks": (-(-k // block_size), blocks),
        "zero_points": (None if zero_points is None else zero_points.shape, (n, -(-blocks * bits // 8))),
        "bias": (None if bias is None else bias.shape, (n,)),
    }
    for name, (found, wanted) in shapes.items():
        if found not in (None, wanted):
            raise ValueError(f"cannot multiply: {name} is {found}, expected {wanted}")
    arrays = [
        None if a is None else np.ascontiguousarray(a, dtype)
        for a, dtype in ((codes, np.uint8), (scales, scales.dtype), (zero_points, np.uint8), (bias, np.float32))
    ]
    matrix = Matrix(
        *(None if a is None else a.ctypes.data for a in arrays), n, k, bits, block_size,
        FLOAT16 if scales.dtype == np.float16 else FLOAT32,
    )  # fmt: skip
    rows, y = np.ascontiguousarray(x, np.float32), np.empty((m, n), np.float32)
    status = library().ek_multiply(
        None if kernel is None else kernel.encode(), matrix, rows.ctypes.data, m, int(prefill), y.ctypes.data
    )
    if status != OK:
        raise EngineError(last_error())
    return y


def attend(
    qkv: NDArray[np.float32],
    num_heads: int,
    num_kv_heads: int,
    cos: NDArray[np.float32],
    sin: NDArray[np.float32],
    threads: int = 0,
) -> NDArray[np.float32]:
    """Compute the causal attention of one layer over a whole text. Keys and values are rounded to float16.

    Args:
        qkv: float32 (tokens, (heads + 2 * kv_heads) * head_dim), before rotation; head_dim is a multiple of 16,
            at most 256.
        num_heads: Query heads, a multiple of ``num_kv_heads``.
        num_kv_heads: Key-value heads.
        cos, sin: float32 (tokens or more, head_dim / 2).
        threads: Number of threads; 0: the number the engine uses by default.

    Returns:
        float32 (tokens, heads * head_dim).

    Raises:
        EngineError: The number or the size of the heads is not supported.
        ValueError: The shapes of two arrays contradict each other.
    """
    tokens, width = qkv.shape
    head_dim = 2 * cos.shape[1]
    if width != (num_heads + 2 * num_kv_heads) * head_dim or cos.shape != sin.shape or len(cos) < tokens:
        raise ValueError(
            f"cannot compute attention: projections {qkv.shape}, {num_heads} heads, {num_kv_heads} key-value heads, and"
            f" angles {cos.shape} and {sin.shape} do not fit together"
        )
    rows, cos, sin = (np.ascontiguousarray(a, np.float32) for a in (qkv, cos, sin))
    y = np.empty((tokens, num_heads * head_dim), np.float32)
    status = library().ek_attend(
        rows.ctypes.data, tokens, num_heads, num_kv_heads, head_dim, cos.ctypes.data, sin.ctypes.data, threads,
        y.ctypes.data,
    )  # fmt: skip
    if status != OK:
        raise EngineError(last_error())
    return y
