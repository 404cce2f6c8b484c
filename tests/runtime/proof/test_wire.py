"""Protobuf's encoding, against the package that defines it."""

from __future__ import annotations

import onnx
import pytest

from edgekit.errors import ArtifactError
from edgekit.runtime.proof.wire import field, fields, packed


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -5])
def test_a_number_is_written_as_protobuf_writes_it(number: int) -> None:
    expected = onnx.AttributeProto(name="a", i=number)
    assert field(1, "a") + field(3, number) == expected.SerializeToString()
    assert [value for key, value, _ in fields(expected.SerializeToString()) if key == 3] == [number % 2**64]


def test_fields_are_found_whole() -> None:
    message = onnx.AttributeProto(name="epsilon", f=1e-6, type=1).SerializeToString()
    assert b"".join(encoded for _, _, encoded in fields(message)) == message
    assert [number for number, _, _ in fields(message)] == [1, 2, 20]
    assert packed(b"\x01\xac\x02") == [1, 300]


@pytest.mark.parametrize("message", [b"\x0a\x05ab", b"\x08", b"\x0b", b"\x08" + b"\xff" * 12, b"\x0d\x00"])
def test_what_is_no_message_is_an_error(message: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        list(fields(message))
