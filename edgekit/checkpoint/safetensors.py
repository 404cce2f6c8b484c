"""Reads and checks the safetensors header. Its size is limited, and the weights are not touched.

    +--------+----------------------------------------------+------------------------------+
    | N: u64 | N bytes of JSON:                             | the tensors, back to back    |
    | little | {"name": {"dtype": "BF16", "shape": [o, i],  | offsets count from here      |
    | endian |           "data_offsets": [begin, end]}, ...}|                              |
    +--------+----------------------------------------------+------------------------------+

Specification: https://github.com/huggingface/safetensors#format. It requires that the tensors fill the data exactly,
without holes or overlap, and that N is at most 100 MB; edgekit reads 10 MB, since a header of many empty tensors takes
more than a gigabyte of memory to parse.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..errors import CorruptFileError, TruncatedFileError
from ..json_file import parse_json_object
from .base import TensorInfo
from .files import WeightFile, truncated

FLOAT_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
MAX_HEADER_BYTES = 10_000_000  # a model of 18,867 tensors (Qwen3-30B-A3B) has 2.3 MB; the specification's limit is 10^8
_MAX_RANK = 8
_MAX_DIMENSION = 2**48  # also beside a dimension of 0, as numpy multiplies the others
_MAX_OFFSET = 2**63 - 1


def read_header(file: WeightFile) -> dict[str, TensorInfo]:
    """Read and check the header of a safetensors file.

    Args:
        file: The open file.

    Returns:
        Name -> location, in the order of the data. Types other than F32, F16 and BF16 keep the specification's name
        (``I64``).

    Raises:
        CorruptFileError: The header contradicts itself, the format or the file.
        TruncatedFileError: The file ends inside its header or before its last tensor does; the message names the
            first tensor that is cut off.
    """
    path = file.path
    if file.size < 8:
        raise truncated(path, "its header", 8, file.size)
    prefix = file.read(0, 8, "the header's length")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        hint = "this is a git-lfs pointer and not the file itself; run git lfs pull" if prefix == b"version " else ""
        raise CorruptFileError(
            f"{path} is not a safetensors file: its header claims {length} bytes; the limit is {MAX_HEADER_BYTES}", hint
        )
    if 8 + length > file.size:
        raise truncated(path, "its header", 8 + length, file.size)
    tensors = parse_header_json(bytes(file.read(8, length, "the header")), path, str(path))
    tensors.sort(key=lambda t: (t.offset, t.size_bytes))
    _check_layout(path, tensors, 8 + length, file.size)
    return {tensor.name: tensor for tensor in tensors}


def parse_header_json(content: bytes, path: Path, what: str) -> list[TensorInfo]:
    """Check the JSON of a header, each tensor for itself.

    Args:
        content: The JSON.
        path: The file that it is of.
        what: The file, for messages.

    Raises:
        CorruptFileError: It is not a header.
    """
    header = parse_json_object(content, f"the header of {what}")
    header.pop("__metadata__", None)
    return [_tensor(path, name, entry, 8 + len(content)) for name, entry in header.items()]


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> TensorInfo:
    """Check one entry of the header and convert it to a :class:`TensorInfo`."""

    def corrupt(problem: str) -> CorruptFileError:
        return CorruptFileError(f"{path}: tensor {name!r}: {problem}")

    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise corrupt("its header entry must have exactly the keys dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise corrupt(f"dtype is {dtype!r}; it must be a string")
    if not _whole_numbers(shape, _MAX_DIMENSION) or len(shape) > _MAX_RANK:
        raise corrupt(f"shape must be a list of at most {_MAX_RANK} whole numbers up to {_MAX_DIMENSION}")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise corrupt("data_offsets must be two whole numbers in ascending order")
    size = offsets[1] - offsets[0]
    if dtype in _ITEM_BYTES and size != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise corrupt(
            f"{dtype} with shape {shape} needs {math.prod(shape) * _ITEM_BYTES[dtype]} bytes, but data_offsets span "
            f"{size}"
        )
    return TensorInfo(name, FLOAT_DTYPES.get(dtype, dtype), tuple(shape), path, data_start + offsets[0], size)


def _whole_numbers(value: Any, most: int = _MAX_OFFSET) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= most for n in value)


def _check_layout(path: Path, tensors: list[TensorInfo], data_start: int, file_size: int) -> None:
    """Check that the tensors, sorted by offset, fill the file from ``data_start`` on without holes or overlap."""
    end, previous = data_start, "the header"
    cut: TruncatedFileError | None = None
    for tensor in tensors:
        if tensor.offset != end:
            kind = "overlaps" if tensor.offset < end else "leaves a hole after"
            raise CorruptFileError(
                f"{path}: tensor {tensor.name!r} begins at byte {tensor.offset} and {kind} {previous}, "
                f"which ends at byte {end}"
            )
        end, previous = tensor.offset + tensor.size_bytes, f"tensor {tensor.name!r}"
        if end > file_size and cut is None:
            cut = truncated(path, f"tensor {tensor.name!r} at byte {tensor.offset}", end, file_size)
    if cut is not None:
        raise cut
    if end != file_size:
        raise CorruptFileError(f"{path} has {file_size} bytes, but its last tensor ends at byte {end}")
