"""The formats of quantized weights, as data and shape arithmetic for recipes, planner, quantizer and exporter.

The shapes are those of onnxruntime's ``com.microsoft.MatMulNBits``
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). ``quantize/packing.py`` shows the layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .arguments import check_kind, check_truth
from .errors import UsageError

BITS = (4, 8)
METHODS = ("rtn", "gptq")
BLOCK_SIZES = (32, 64, 128)
IMPORTED = "imported"  # the method if the codes are copied from a quantized checkpoint
FLOAT_BYTES = {"float32": 4, "float16": 2}
KV_TYPES = ("float16", "int8")  # types of keys and values that can be requested; an engine may support fewer


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
        if not isinstance(self.bits, int) or self.bits not in BITS:
            raise ValueError(f"bits is {self.bits!r}; allowed: {', '.join(map(str, BITS))}")
        if not isinstance(self.block_size, int) or self.block_size not in BLOCK_SIZES:
            raise ValueError(f"block_size is {self.block_size!r}; allowed: {', '.join(map(str, BLOCK_SIZES))}")
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

    Raises:
        ValueError: A value has another type or is not allowed, or the method gptq has a part inside the layers to
            calibrate that stays in float.
    """

    linear: QuantizationScheme | None
    embedding: QuantizationScheme | None
    lm_head: QuantizationScheme | None
    method: str = "rtn"
    matrices: Mapping[str, QuantizationScheme | None] = field(default_factory=dict, hash=False)
    mean_bits: float | None = None
    rotate: bool = False
    scale: bool = False

    def __post_init__(self) -> None:
        for name in ("linear", "embedding", "lm_head"):
            check_kind(name, getattr(self, name), QuantizationScheme)
        if self.mean_bits is not None:
            _check_mean("mean_bits", self.mean_bits)
        check_truth("rotate", self.rotate)
        check_truth("scale", self.scale)
        _check_method(self.method, (*METHODS, IMPORTED))
        if not isinstance(self.matrices, Mapping) or not all(isinstance(name, str) for name in self.matrices):
            raise ValueError(f"matrices is {self.matrices!r}; it must be a mapping from names to formats")
        for name, scheme in self.matrices.items():
            check_kind(f"matrices[{name!r}]", scheme, QuantizationScheme)
        # A mean over all weights quantizes every part.
        if self.method == "gptq" and self.mean_bits is None and (part := _float_part(self.linear, self.matrices)):
            raise ValueError(f"method is 'gptq', but {part} is float: there is nothing to calibrate")

    def inside(self, matrix: str) -> QuantizationScheme | None:
        """The format of a matrix inside the layers."""
        return self.matrices.get(matrix, self.linear)

    @classmethod
    def none(cls) -> QuantizationConfig:
        """No quantization: the float graph, the reference for all others."""
        return cls(linear=None, embedding=None, lm_head=None)


@dataclass(frozen=True)
class QuantizationOverrides:
    """Changes to a recipe's quantization; None keeps the recipe's value.

    Args:
        bits: A whole number (4 or 8) is the width of the codes inside the layers. A float is the mean over all weights.
        block_size: Weights that share a scale, in every quantized part.
        symmetric: Without (True) or with (False) zero points, in every quantized part.
        embedding_bits: Width of the token embedding.
        lm_head_bits: Width of the output projection.
        method: ``rtn`` or ``gptq``.
        rotate, scale: See :class:`QuantizationConfig`.

    Raises:
        ValueError: A value has another type or is not allowed.
    """

    bits: int | float | None = None
    block_size: int | None = None
    symmetric: bool | None = None
    embedding_bits: int | None = None
    lm_head_bits: int | None = None
    method: str | None = None
    rotate: bool | None = None
    scale: bool | None = None

    def __post_init__(self) -> None:
        for name in ("symmetric", "rotate", "scale"):
            check_truth(name, getattr(self, name), optional=True)
        if isinstance(self.bits, float):
            _check_mean("bits", self.bits)
        else:
            _check_one_of("bits", self.bits, BITS, ", or a float for the mean over all weights")
        _check_one_of("block_size", self.block_size, BLOCK_SIZES)
        for name in ("embedding_bits", "lm_head_bits"):
            _check_one_of(name, getattr(self, name), BITS)
        if self.method is not None:
            _check_method(self.method, METHODS)

    @classmethod
    def of_width(cls, bits: int, block_size: int | None = None) -> QuantizationOverrides:
        """Every part in this many bits."""
        return cls(bits, block_size, embedding_bits=bits, lm_head_bits=bits)

    def applied_to(self, config: QuantizationConfig) -> QuantizationConfig:
        """The configuration with these changes.

        A part that the configuration keeps in float is quantized if its bits are given. If the configuration scales or
        rotates and another method is requested, the preparation changes to the one that suits the method.

        Raises:
            UsageError: Both a mean over all weights and the width of a single part are given, or the method gptq is
                requested for layers that stay in float.
        """
        bits, mean = (None, self.bits) if isinstance(self.bits, float) else (self.bits, None)
        if mean is not None and (self.embedding_bits is not None or self.lm_head_bits is not None):
            raise UsageError(
                f"--bits {mean:g} is a mean over all weights, so it also chooses the widths of embedding and lm_head",
                hint="remove --embedding-bits and --lm-head-bits, or use --bits 4 or --bits 8",
            )
        if self.method not in (None, config.method) and (config.scale or config.rotate):
            # SmolLM2-135M with its outliers, mean KL unchanged, scaled, rotated: rtn 0.704, 0.165, 0.469;
            # gptq on 8192 tokens 0.116, 0.085, 0.064.
            config = replace(config, scale=self.method == "rtn", rotate=self.method == "gptq")
        linear, method = self._scheme(config.linear, bits), config.method if self.method is None else self.method
        matrices = {name: self._scheme(scheme, bits) for name, scheme in config.matrices.items()}
        left = config.mean_bits if self.bits is None else mean
        if method == "gptq" and left is None and (part := _float_part(linear, matrices)):
            raise UsageError(
                f"the method gptq was requested, but {part} is float: there is nothing to calibrate",
                hint="give the layers a width, --bits 4 or --bits 8, or remove --method gptq",
            )
        return replace(
            config,
            linear=linear,
            embedding=self._scheme(config.embedding, self.embedding_bits),
            lm_head=self._scheme(config.lm_head, self.lm_head_bits),
            matrices=matrices,
            method=method,
            mean_bits=left,
            rotate=config.rotate if self.rotate is None else self.rotate,
            scale=config.scale if self.scale is None else self.scale,
        )

    def _scheme(self, scheme: QuantizationScheme | None, bits: int | None) -> QuantizationScheme | None:
        if scheme is None and bits is None:
            return None
        scheme = scheme or QuantizationScheme()
        return QuantizationScheme(
            bits=scheme.bits if bits is None else bits,
            block_size=scheme.block_size if self.block_size is None else self.block_size,
            symmetric=scheme.symmetric if self.symmetric is None else self.symmetric,
        )


def _float_part(linear: QuantizationScheme | None, matrices: Mapping[str, QuantizationScheme | None]) -> str:
    """The name of a part inside the layers that stays in float; empty if there is none."""
    if linear is None:
        return "linear"
    return next((name for name, scheme in matrices.items() if scheme is None), "")


def _check_method(value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"method is {value!r}; allowed: {', '.join(allowed)}")


def _check_one_of(name: str, value: object, allowed: tuple[int, ...], more: str = "") -> None:
    if value is not None and (type(value) is not int or value not in allowed):
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(str, allowed))}{more}")


def _check_mean(name: str, value: object) -> None:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"{name} is {value!r}; it must be a finite number: a mean of bits per weight")
