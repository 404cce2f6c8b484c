"""How weights are quantized, as pure data and arithmetic: read by recipes, planner, quantizer and exporter.

The layout these shapes describe is onnxruntime's ``com.microsoft.MatMulNBits``
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md); ``quantize/packing.py`` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BITS = (4, 8)
METHODS = ("rtn", "gptq")
BLOCK_SIZES = (32, 64, 128)
IMPORTED = "imported"  # the method of codes that a checkpoint held already
FLOAT_BYTES = {"float32": 4, "float16": 2}
KV_TYPES = ("float16", "int8")  # types of keys and values that can be asked for; an engine may support fewer


@dataclass(frozen=True)
class QuantizationScheme:
    """One linear's weight format.

    Args:
        bits: Width of a code, 4 or 8.
        block_size: How many consecutive input features share a scale (the field's ``group_size``): 32, 64 or 128.
        symmetric: True: the zero point is ``2**(bits-1)`` everywhere and not stored. False: one code per block.

    Raises:
        ValueError: On a value that is not allowed.
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
        """Blocks in a row; the last one may be short."""
        return -(-in_features // self.block_size)

    def codes_shape(self, out_features: int, in_features: int) -> tuple[int, int, int]:
        """Shape of the packed codes: uint8 (out, blocks, block_size * bits / 8)."""
        return out_features, self.blocks(in_features), self.block_size * self.bits // 8

    def scales_shape(self, out_features: int, in_features: int) -> tuple[int, int]:
        """Shape of the scales: float (out, blocks)."""
        return out_features, self.blocks(in_features)

    def zero_points_shape(self, out_features: int, in_features: int) -> tuple[int, int] | None:
        """Shape of the packed zero points, uint8 (out, ceil(blocks * bits / 8)), or None when symmetric."""
        if self.symmetric:
            return None
        return out_features, -(-self.blocks(in_features) * self.bits // 8)

    def __str__(self) -> str:
        return f"int{self.bits} block {self.block_size} {'symmetric' if self.symmetric else 'asymmetric'}"


@dataclass(frozen=True)
class QuantizationConfig:
    """The formats of a whole model; ``None`` leaves that part in the activation's float type.

    Args:
        linear: All products inside the layers.
        embedding: The token embedding. A model with tied embeddings stores one table when it equals ``lm_head``.
        lm_head: The output projection.
        method: How the codes of the layers are chosen: ``rtn`` (round to nearest with a scale search) or ``gptq``
            (so that errors make up for one another on calibration texts; that of a 4-bit lm_head that is a table of its
            own, too). The rest is always rounded to nearest.
            ``imported``: the checkpoint's own codes are taken over, and what it holds in float is rounded to nearest.
        matrices: Matrices inside the layers that have a format of their own, under their names in ``layout.py``:
            ``model.layers.0.attn.qkv_proj``.
        mean_bits: The widths are still to be chosen, 4 or 8 bits for each matrix, so that all weights with their scales
            come to at most so many bits on average (``planning/widths.py``); None: the formats are as given.
        rotate: The weights are first put into another basis, in which neither they nor the hidden states have outliers
            (``weights/rotated.py``); a model with tied embeddings then has an lm_head of its own.
        scale: Each input feature of a matrix is first scaled by what it carries on a text (``weights/scaled.py``).
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
        """No quantization: the float graph, reference for everything else."""
        return cls(linear=None, embedding=None, lm_head=None)
