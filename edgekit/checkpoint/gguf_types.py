"""The tensor types of GGUF files: their sizes, and their values as float32.

The ``gguf`` package dequantizes the block types (``gguf.quants``, the reference in numpy). It is imported at the first
read, because planning and header reads do not need it.

Source: https://github.com/ggml-org/ggml, ``ggml.h`` (numbers) and ``ggml-common.h`` (blocks).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError

# id, elements per block, bytes per block of every type that edgekit reads.
BLOCK_TYPES: dict[str, tuple[int, int, int]] = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "IQ2_XXS": (16, 256, 66),
    "IQ2_XS": (17, 256, 74),
    "IQ3_XXS": (18, 256, 98),
    "IQ1_S": (19, 256, 50),
    "IQ4_NL": (20, 32, 18),
    "IQ3_S": (21, 256, 110),
    "IQ2_S": (22, 256, 82),
    "IQ4_XS": (23, 256, 136),
    "I8": (24, 1, 1),
    "I16": (25, 1, 2),
    "I32": (26, 1, 4),
    "I64": (27, 1, 8),
    "F64": (28, 1, 8),
    "IQ1_M": (29, 256, 56),
    "BF16": (30, 1, 2),
    "TQ1_0": (34, 256, 54),
    "TQ2_0": (35, 256, 66),
    "MXFP4": (39, 32, 17),
    "NVFP4": (40, 64, 36),
}
_BY_NUMBER = {number: (name, block, size) for name, (number, block, size) in BLOCK_TYPES.items()}
_PLAIN = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
# Types that llama.cpp has removed: layouts of Q4_0 and IQ4_NL for certain CPUs, and two early formats.
_REMOVED = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}  # fmt: skip
OTHER_TYPES = "use a GGUF file with other types, such as Q4_K_M or Q8_0, or the original checkpoint"


def type_of(number: int, where: str) -> tuple[str, int, int]:
    """The name, the elements per block and the bytes per block of a type, whether or not edgekit reads it.

    Args:
        number: The type's number in the file.
        where: The file and the tensor, for error messages.

    Raises:
        CheckpointError: The type is unknown, so the size of the tensor is unknown, too.
    """
    if number in _BY_NUMBER:
        return _BY_NUMBER[number]
    if number in _REMOVED:
        raise CheckpointError(
            f"{where} has type {_REMOVED[number]}, which llama.cpp no longer supports; supported: "
            f"{', '.join(BLOCK_TYPES)}",
            hint=OTHER_TYPES,
        )
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        known = GGMLQuantizationType(number)
        block, size = GGML_QUANT_SIZES[known]
    except (ValueError, KeyError):
        raise CheckpointError(
            f"{where} has the unknown type {number}; supported: {', '.join(BLOCK_TYPES)}", hint=OTHER_TYPES
        ) from None
    return known.name, int(block), int(size)


def unreadable(type_name: str) -> str:
    """Why a type cannot be read, or an empty string if it can.

    Args:
        type_name: The type's name in ``ggml.h``.
    """
    if type_name not in BLOCK_TYPES:
        return f"has type {type_name}; supported: {', '.join(BLOCK_TYPES)}"
    if type_name in _PLAIN:
        return ""
    from gguf.constants import GGMLQuantizationType

    if type_name in GGMLQuantizationType.__members__:
        return ""
    return f"has type {type_name}, which needs a newer version of the package gguf: pip install --upgrade gguf"


def dequantize(raw: NDArray[np.uint8], type_name: str) -> NDArray[np.float32]:
    """Compute the values of some rows.

    Args:
        raw: (rows, bytes per row), whole blocks.
        type_name: A type that is not :func:`unreadable`.

    Returns:
        (rows, elements per row) float32; a view of ``raw`` for F32.
    """
    if type_name in _PLAIN:
        plain: NDArray[Any] = raw.view(np.dtype(_PLAIN[type_name]))
        return plain.astype(np.float32, copy=False)
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize as reference

    values: NDArray[np.float32] = reference(raw, GGMLQuantizationType(BLOCK_TYPES[type_name][0]))
    return values
