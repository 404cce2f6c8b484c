"""Protobuf's encoding (https://protobuf.dev/programming-guides/encoding), for the few messages of ``graph.py``.

message = field*
field   = varint (number << 3 | wire type), value
value   = varint (0) | 8 bytes (1) | varint length, bytes (2) | 4 bytes (5)
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import ArtifactError

_FIXED = {1: 8, 5: 4}


def fields(message: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """The fields of a message: number, value (int for a varint, otherwise bytes), and the field as it is encoded.

    Raises:
        ArtifactError: The bytes are not a message.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(message, at)
        else:
            size = _FIXED.get(wire)
            if size is None:
                if wire != 2:
                    raise ArtifactError(f"model.onnx: wire type {wire} at byte {start}; allowed: 0, 1, 2, 5")
                size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        if at > len(message):
            raise ArtifactError(f"model.onnx: the field at byte {start} ends at {at}; the message has {len(message)}")
        yield number, value, message[start:at]


def field(number: int, value: int | bytes | str) -> bytes:
    """A field: a varint for an int, otherwise a length and the bytes."""
    if isinstance(value, int):
        return _encode(number << 3) + _encode(value)
    data = value.encode() if isinstance(value, str) else value
    return _encode(number << 3 | 2) + _encode(len(data)) + data


def packed(values: bytes) -> list[int]:
    """The varints of a packed field."""
    found, at = [], 0
    while at < len(values):
        value, at = _varint(values, at)
        found.append(value)
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ArtifactError(f"model.onnx: no number ends at byte {at}")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _encode(value: int) -> bytes:
    value &= 2**64 - 1  # negative numbers are written as two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
