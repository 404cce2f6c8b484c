"""The formats of quantized weights, as data and shape arithmetic for recipes, planner, quantizer and exporter.

The shapes are those of onnxruntime's ``com.microsoft.MatMulNBits``
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). ``quantize/packing.py`` shows the layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BITS = (4, 8)
METHODS = ("rtn", "gptq")
BLOCK_SIZES = (32, 64, 128)
IMPORTED = "imported"  # the method if the codes are copied from a quantized checkpoint
FLOAT_BYTES = {"float32": 4, "float16": 2}
KV_TYPES = ("float16", "int8")  # types of keys and values that can be asked for; an engine may support fewer


@dataclass(frozen=True)
class QuantizationScheme:
    """The format of one matrix.

    Args:
        bits: Width of a code, 4 or 8.
        block_size: Number of consecutive input features that share a scale (also called group size): 32, 64 or 128.
        symmetric: If true, every zero point is ``2**(bits-1)`` and none is stored. If false, each block stores one.

    Raises:
        ValueError: A value is not allowed.
    """

    bits: int = 4
    block_size: int = 32
    symmetric: bool = True

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"bits is {self.bits}; allowed: {', '.join(map(str, BITS))}")
        if self.block_size not in BLOCK_SIZES:
            raise ValueError(f"block_size is {self.block_size}; allowed: {', '.join(map(str, BLOCK_SIZES))}")
        if not isinstance(self.symmetric, bool):
            raise ValueError(f"symmetric is {self.symmetric!r}; allowed: true, false")

    def blocks(self, in_features: int) -> int:
        """Number of blocks per row; the last one may be short."""
        return -(-in_features // self.block_size)

    def codes_shape(self, out_features: int, in_features: int) -> tuple[int, int, int]:
        """Shape of the packed codes: uint8 (out, blocks, block_size * bits / 8)."""
        return out_features, self.blocks(in_features), self.block_size * self.bits // 8

    def scales_shape(self, out_features: int, in_features: int) -> tuple[int, int]:
        """Shape of the scales: float (out, blocks)."""
        return out_features, self.blocks(in_features)

    def zero_points_shape(self, out_features: int, in_features: int) -> tuple[int, int] | None:
        """Shape of the packed zero points, uint8 (out, ceil(blocks * bits / 8)), or None if symmetric."""
        if self.symmetric:
            return None
        return out_features, -(-self.blocks(in_features) * self.bits // 8)

    def __str__(self) -> str:
        return f"int{self.bits} block {self.block_size} {'symmetric' if self.symmetric else 'asymmetric'}"


@dataclass(frozen=True)
class QuantizationConfig:
    """The formats of a whole model. A format of ``None`` keeps that part in the activation's float type.

    Args:
        linear: Format of all matrices inside the layers.
        embedding: Format of the token embedding. A tied model stores one table if this equals ``lm_head``.
        lm_head: Format of the output projection.
        method: How codes are chosen. ``rtn`` rounds to nearest with a scale search. ``gptq`` chooses the codes of the
            layers, and of a separate 4-bit lm_head, so that errors on calibration texts compensate each other; the rest
            is rounded to nearest. ``imported`` copies the checkpoint's codes and rounds its float weights to nearest.
        matrices: Formats of single matrices inside the layers that differ from ``linear``, by the names of
            ``layout.py``: ``model.layers.0.attn.qkv_proj``.
        mean_bits: If given, the planner chooses 4 or 8 bits for each matrix, so that all weights with their scales have
            at most this many bits on average (``planning/widths.py``). If None, the formats are used as given.
        rotate: Whether weights and hidden states are first rotated into a basis without outliers
            (``weights/rotated.py``). A tied model then gets a separate lm_head.
        scale: Whether each input feature is first scaled by its importance on calibration texts
            (``weights/scaled.py``).
    """

    linear: QuantizationScheme | None
    embedding: QuantizationScheme | None
    lm_head: QuantizationScheme | None
    method: str = "rtn"
    matrices: Mapping[str, QuantizationScheme | None] = field(default_factory=dict, hash=False)
    mean_bits: float | None = None
    rotate: bool = False
    scale: bool = False

    def inside(self, matrix: str) -> QuantizationScheme | None:
        """The format of a matrix inside the layers."""
        return self.matrices.get(matrix, self.linear)

    @classmethod
    def none(cls) -> QuantizationConfig:
        """No quantization: the float graph, the reference for all others."""
        return cls(linear=None, embedding=None, lm_head=None)
