"""Reads what verification needs of an ONNX file, without the package onnx: a device that verifies has none.

    ModelProto       graph = 7, metadata_props = 14, producer_name = 2
    GraphProto       initializer = 5, input = 11, output = 12
    TensorProto      dims = 1, data_type = 2, name = 8, external_data = 13, data_location = 14
    ValueInfoProto   name = 1, type = 2 {tensor_type = 1 {shape = 2 {dim = 1 {dim_value = 1}}}}

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_EXTERNAL = 1  # TensorProto.DataLocation
_MAX_SHIFT = 63  # of a varint, which has up to ten bytes


@dataclass(frozen=True)
class StoredTensor:
    """An initializer whose content is in another file.

    Attributes:
        name: Its name.
        data_type: Its TensorProto.DataType.
        dims: Its shape.
        location: The file, from the folder of the graph.
        offset: Its first byte there.
        length: Its bytes there; None if the file does not say.
    """

    name: str
    data_type: int
    dims: tuple[int, ...]
    location: str
    offset: int
    length: int | None


@dataclass(frozen=True)
class OnnxFile:
    """Parts of an ONNX model.

    Attributes:
        producer: The program that wrote it.
        metadata: ``metadata_props``.
        stored: The initializers in other files.
        shapes: The shape of each input and output, by name; None for a dynamic dimension.
    """

    producer: str
    metadata: dict[str, str]
    stored: tuple[StoredTensor, ...]
    shapes: dict[str, tuple[int | None, ...]]


def read_onnx(content: bytes) -> OnnxFile:
    """Read a model.

    Args:
        content: The file.

    Raises:
        ValueError: It is not a model in ONNX format.
    """
    producer, metadata, stored = "", {}, []
    shapes: dict[str, tuple[int | None, ...]] = {}
    graphs = 0
    for field, value in _fields(memoryview(content)):
        if field == 2:
            producer = _text(value)
        elif field == 14:
            key, text = _entry(value)
            metadata[key] = text
        elif field == 7:
            graphs += 1
            for part, inner in _fields(_bytes(value)):
                if part == 5:
                    tensor = _tensor(inner)
                    stored += [] if tensor is None else [tensor]
                elif part in (11, 12):
                    name, shape = _value_info(inner)
                    shapes[name] = shape
    if graphs != 1:
        raise ValueError(f"it has {graphs} graphs")
    return OnnxFile(producer, metadata, tuple(stored), shapes)


def _tensor(message: int | memoryview) -> StoredTensor | None:
    dims: list[int] = []
    data_type = location = 0
    name, entries = "", {}
    for field, value in _fields(_bytes(message)):
        if field == 1:
            dims += list(_packed(value)) if isinstance(value, memoryview) else [value]
        elif field == 2:
            data_type = _number(value)
        elif field == 8:
            name = _text(value)
        elif field == 13:
            key, text = _entry(value)
            entries[key] = text
        elif field == 14:
            location = _number(value)
    if location != _EXTERNAL:
        return None
    return StoredTensor(
        name,
        data_type,
        tuple(dims),
        entries.get("location", ""),
        _decimal(entries.get("offset", "0")),
        _decimal(entries["length"]) if "length" in entries else None,
    )


def _value_info(message: int | memoryview) -> tuple[str, tuple[int | None, ...]]:
    name = ""
    dims: list[int | None] = []
    for field, value in _fields(_bytes(message)):
        if field == 1:
            name = _text(value)
        elif field == 2:
            for shape in _inside(value, 1, 2):
                dims += [
                    next((_number(each) for part, each in _fields(_bytes(dim)) if part == 1), None)
                    for part, dim in _fields(_bytes(shape))
                    if part == 1
                ]
    return name, tuple(dims)


def _inside(message: int | memoryview, *path: int) -> Iterator[int | memoryview]:
    """The values of a field of a field."""
    if not path:
        yield message
        return
    for field, value in _fields(_bytes(message)):
        if field == path[0]:
            yield from _inside(value, *path[1:])


def _entry(message: int | memoryview) -> tuple[str, str]:
    """A StringStringEntryProto: key = 1, value = 2."""
    found = {field: _text(value) for field, value in _fields(_bytes(message)) if field in (1, 2)}
    return found.get(1, ""), found.get(2, "")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: numbers, and bytes for everything with a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"it has a field of the unknown kind {kind}")
        if length > len(message) - at:
            raise ValueError("it ends in the middle of a field")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift <= _MAX_SHIFT:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("it has a number that does not end")


def _packed(values: memoryview) -> Iterator[int]:
    at = 0
    while at < len(values):
        value, at = _varint(values, at)
        yield value


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it has a number in place of a message")
    return value


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("it has a message in place of a number")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode("utf-8")


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"it places a tensor at {text[:30]!r}, which is not a number")
    return int(text)
