"""The bit layout of all quantized weights: onnxruntime's ``com.microsoft.MatMulNBits``.

A weight w of shape (N out, K in) is split along K into blocks of ``block_size``; a short last block is padded:

    w[n, k] = scale[n, k // block_size] * (code[n, k] - zero_point[n, k // block_size])

    codes        uint8 (N, blocks, block_size * bits / 8)
                 4 bits:  byte i of a block holds code 2i in bits 0..3 and code 2i+1 in bits 4..7
                 8 bits:  byte i is code i
    scales       float32 or float16 (N, blocks)
    zero_points  uint8 (N, ceil(blocks * bits / 8)), packed like the codes, each row padded to a whole byte;
                 absent if symmetric, when every zero point is 2**(bits-1)

A short last block is padded with codes equal to its zero point, which means 0.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmatmulnbits
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..scheme import QuantizationScheme


@dataclass(frozen=True)
class PackedLinear:
    """A quantized (out, in) weight in the layout described above."""

    scheme: QuantizationScheme
    out_features: int
    in_features: int
    codes: NDArray[np.uint8]  # (out, blocks, block_size * bits / 8)
    scales: NDArray[np.floating]  # (out, blocks)
    zero_points: NDArray[np.uint8] | None  # (out, ceil(blocks * bits / 8))

    def __post_init__(self) -> None:
        size = (self.out_features, self.in_features)
        for name, array, shape in (
            ("codes", self.codes, self.scheme.codes_shape(*size)),
            ("scales", self.scales, self.scheme.scales_shape(*size)),
            ("zero_points", self.zero_points, self.scheme.zero_points_shape(*size)),
        ):
            found = None if array is None else array.shape
            if found != shape:
                raise ValueError(f"{name} of a {size} weight has shape {found}; {self.scheme} requires {shape}")

    def dequantize(self) -> NDArray[np.float32]:
        """Compute the weight: float32 (out, in)."""
        scheme, blocks = self.scheme, self.scheme.blocks(self.in_features)
        codes = unpack(self.codes, scheme.bits).astype(np.float32)  # (out, blocks, block_size)
        if self.zero_points is None:
            zero: NDArray[np.float32] | float = float(2 ** (scheme.bits - 1))
        else:
            zero = unpack(self.zero_points, scheme.bits)[:, :blocks, None].astype(np.float32)
        weight: NDArray[np.float32] = (codes - zero) * self.scales[:, :, None].astype(np.float32)
        return weight.reshape(self.out_features, -1)[:, : self.in_features]


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack codes along the last axis, low nibble first. An odd number of 4-bit codes is padded with 0.

    Args:
        codes: uint8 (..., n), each below ``2**bits``.
        bits: 4 or 8.

    Returns:
        uint8 (..., ceil(n * bits / 8)).
    """
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], 1), np.uint8)], axis=-1)
    return (codes[..., 0::2] | (codes[..., 1::2] << 4)).astype(np.uint8, copy=False)


def unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The inverse of :func:`pack`: uint8 (..., m) -> uint8 (..., m * 8 / bits)."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
