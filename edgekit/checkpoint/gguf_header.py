"""Parses the GGUF header, metadata and tensor list. Every count is checked before memory is allocated for it.

    "GGUF" | version u32 | tensor count u64 | metadata count u64
    metadata, each:  key string | type u32 | value          string = length u64 | UTF-8
                                                            array  = type u32 | count u64 | values
    tensors, each:   name string | rank u32 | rank * u64 (fastest first) | type u32 | offset u64
    padding to general.alignment (32), then the data; offsets count from there

Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Versions 2 and 3, little endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError, CorruptFileError
from .base import TensorInfo
from .files import WeightFile, truncated
from .gguf_types import type_of

MAGIC = b"GGUF"
_FLOAT_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_STRING, _ARRAY = 8, 9
# Most of a header is its vocabulary: 6 MB for 152064 tokens with merges, 15 MB for the largest in use (262144 tokens).
_MAX_HEADER_BYTES = 128 * 1024 * 1024
_WINDOW_BYTES = 1024 * 1024
_MAX_RANK = 4  # GGML_MAX_DIMS
_MAX_DIMENSION = 2**48
_MAX_OFFSET = 2**63 - 1


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file.

    Args:
        path: The file.
        file_size: The file's length in bytes.
        metadata: Key -> number, bool, string, list of strings, or numpy array of numbers.
        tensors: Name -> location, in the order of the data.
    """

    path: Path
    file_size: int
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


def parse_header(file: WeightFile) -> GgufHeader:
    """Parse the header of a GGUF file. The data after the header may be missing.

    Raises:
        CorruptFileError: The header contradicts itself or the format, or has impossible sizes.
        TruncatedFileError: The file ends inside the header.
        CheckpointError: The header has an unknown version or tensor type.
    """
    cursor = _Cursor(file)
    if cursor.take(4, "the magic number") != MAGIC:
        raise CorruptFileError(f"{file.path} is not a GGUF file: it does not begin with GGUF")
    version = cursor.u32("the version")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        found = "big endian" if swapped in (2, 3) else f"version {version}"
        raise CheckpointError(f"{file.path} is a GGUF file in {found}; supported: versions 2 and 3, little endian")
    tensor_count, metadata_count = cursor.u64("the tensor count"), cursor.u64("the metadata count")
    # The smallest possible entries: 8 + 4 + 1 bytes for metadata, 8 + 4 + 4 + 8 bytes for a tensor.
    cursor.check_count(metadata_count, 13, "metadata entries")
    cursor.check_count(tensor_count, 24, "tensors")
    metadata: dict[str, Any] = {}
    for _ in range(metadata_count):
        key = cursor.string("a metadata key")
        if key in metadata:
            raise cursor.corrupt(f"duplicate metadata key {key!r}")
        metadata[key] = cursor.value(cursor.u32(f"the type of {key!r}"), f"the value of {key!r}")
    described = [_described_tensor(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > 2**20:
        raise cursor.corrupt(f"general.alignment is {alignment!r}; it must be a power of two, at most {2**20}")
    data_start = -(-cursor.position // alignment) * alignment
    tensors = _place(file.path, described, data_start, alignment)
    return GgufHeader(file.path, file.size, metadata, tensors)


def check_not_truncated(header: GgufHeader) -> None:
    """Check that the file holds all its tensors.

    Raises:
        TruncatedFileError: A tensor is cut off; the message names the first one, its offset and the file's size.
    """
    for tensor in header.tensors.values():
        end = tensor.offset + tensor.size_bytes
        if end > header.file_size:
            raise truncated(header.path, f"tensor {tensor.name!r} at byte {tensor.offset}", end, header.file_size)


@dataclass(frozen=True)
class _Described:
    """A tensor as described in the header; its offset is relative to the start of the data."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


def _described_tensor(cursor: _Cursor) -> _Described:
    name = cursor.string("a tensor's name")
    rank = cursor.u32(f"the rank of tensor {name!r}")
    if not 1 <= rank <= _MAX_RANK:
        raise cursor.corrupt(f"tensor {name!r} has {rank} dimensions; allowed: 1 to {_MAX_RANK}")
    fastest_first = [cursor.u64(f"the shape of tensor {name!r}") for _ in range(rank)]
    if not all(1 <= n <= _MAX_DIMENSION for n in fastest_first):
        raise cursor.corrupt(f"tensor {name!r} has shape {fastest_first}; a dimension must be 1 to {_MAX_DIMENSION}")
    number = cursor.u32(f"the type of tensor {name!r}")
    type_name, block, block_bytes = type_of(number, f"{cursor.path}: tensor {name!r}")
    offset = cursor.u64(f"the offset of tensor {name!r}")
    row = fastest_first[0]
    if row % block:
        raise cursor.corrupt(
            f"tensor {name!r}: the row size {row} is not a multiple of {type_name}'s block size {block}"
        )
    size = math.prod(fastest_first) // block * block_bytes
    if size + offset > _MAX_OFFSET:
        raise cursor.corrupt(f"tensor {name!r} claims {size} bytes at offset {offset}, more than any file can hold")
    return _Described(name, type_name, tuple(reversed(fastest_first)), offset, size)


def _place(path: Path, described: list[_Described], data_start: int, alignment: int) -> dict[str, TensorInfo]:
    """Compute each tensor's offset in the file; check that the tensors are aligned and do not overlap."""
    placed: dict[str, TensorInfo] = {}
    end, previous = 0, ""
    for tensor in sorted(described, key=lambda t: t.offset):
        if tensor.name in placed:
            raise CorruptFileError(f"{path}: duplicate tensor {tensor.name!r}")
        if tensor.offset % alignment:
            raise CorruptFileError(
                f"{path}: tensor {tensor.name!r} at offset {tensor.offset} is not aligned to {alignment}"
            )
        if tensor.offset < end:
            raise CorruptFileError(
                f"{path}: tensor {tensor.name!r} at offset {tensor.offset} overlaps {previous!r}, which ends at {end}"
            )
        end, previous = tensor.offset + tensor.size_bytes, tensor.name
        dtype = _FLOAT_NAMES.get(tensor.type_name, tensor.type_name)
        placed[tensor.name] = TensorInfo(
            tensor.name, dtype, tensor.shape, path, data_start + tensor.offset, tensor.size_bytes
        )
    return placed


class _Cursor:
    """Reads the header sequentially through a window, so that memory grows with the header and not with the file."""

    def __init__(self, file: WeightFile) -> None:
        self._file = file
        self.path = file.path
        self._window = b""
        self._start = 0  # the window's first byte in the file
        self._next = 0  # the next byte to read, in the window

    @property
    def position(self) -> int:
        return self._start + self._next

    def corrupt(self, problem: str) -> CorruptFileError:
        return CorruptFileError(f"{self.path}: header, before byte {self.position}: {problem}")

    def take(self, size: int, what: str) -> bytes:
        """The next ``size`` bytes; nothing is allocated for a size the header or the file cannot hold."""
        end = self._next + size
        if end > len(self._window):
            self._refill(size, what)
            end = size
        piece = self._window[self._next : end]
        self._next = end
        return piece

    def _refill(self, size: int, what: str) -> None:
        position = self.position
        if position + size > _MAX_HEADER_BYTES:
            raise self.corrupt(f"{what} claims {size} bytes; the limit for a header is {_MAX_HEADER_BYTES} bytes")
        if position + size > self._file.size:
            raise truncated(self.path, f"{what} in the header at byte {position}", position + size, self._file.size)
        length = min(max(size, _WINDOW_BYTES), self._file.size - position)
        self._window, self._start, self._next = bytes(self._file.read(position, length, what)), position, 0

    def check_count(self, count: int, min_bytes: int, what: str) -> None:
        """Reject a count whose entries, at ``min_bytes`` or more each, do not fit the header."""
        needed = self.position + count * min_bytes
        if needed > _MAX_HEADER_BYTES:
            raise self.corrupt(f"the header claims {count} {what}; its limit is {_MAX_HEADER_BYTES} bytes")
        if needed > self._file.size:
            raise truncated(self.path, f"the header with {count} {what}", needed, self._file.size)

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.take(8, what), "little")

    def string(self, what: str) -> str:
        raw = self.take(self.u64(what), what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.corrupt(f"{what} is not UTF-8: {error}") from None

    def value(self, kind: int, what: str) -> Any:
        if kind == _STRING:
            return self.string(what)
        if kind == _ARRAY:
            return self._array(what)
        if kind not in _NUMBERS:
            raise self.corrupt(f"{what} has type {kind}; allowed: 0 to 12")
        dtype = np.dtype(_NUMBERS[kind])
        number = np.frombuffer(self.take(dtype.itemsize, what), dtype)[0]
        return number.item()

    def _array(self, what: str) -> Any:
        kind, count = self.u32(what), self.u64(what)
        if kind == _STRING:
            self.check_count(count, 8, f"strings in {what}")
            return list(self._strings(count, what))
        if kind not in _NUMBERS:
            raise self.corrupt(f"{what} is an array of type {kind}; allowed: 0 to 8 and 10 to 12")
        dtype = np.dtype(_NUMBERS[kind])
        self.check_count(count, dtype.itemsize, f"numbers in {what}")
        return np.frombuffer(self.take(count * dtype.itemsize, what), dtype)

    def _strings(self, count: int, what: str) -> Iterator[str]:
        """Read strings. The vocabulary and its merges are 300 thousand strings, so the loop is written for speed."""
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if self._next + 8 > len(self._window):
                self._refill(8, what)
            (size,) = unpack(self._window, self._next)
            self._next += 8
            raw = self.take(size, what)
            try:
                yield raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise self.corrupt(f"a string in {what} is not UTF-8: {error}") from None
