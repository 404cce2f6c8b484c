from __future__ import annotations

import pytest

from edgekit.serve.body import parse_json
from edgekit.serve.request_error import RequestError


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\xff", "not UTF-8: invalid start byte at byte 0"),
        (b"{", "not valid JSON: Expecting property name"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a JSON number"),
        (b'{"a": {"b": -1e999}}', "the number -1e999 is too large"),
        (b"[" * 100_000, "nests too deeply"),
        (b"[" * 102 + b"]" * 102, "at most 100 levels"),
        (b'{"a":' * 102 + b"1" + b"}" * 102, "at most 100 levels"),
        (b"1" * 10_000, "a number has 10000 digits; at most 400 are read"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', 'an object has the key "c" twice'),
        (b"", "not valid JSON"),
    ],
)
def test_a_body_that_is_not_json(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_json(body)


def test_a_body_that_is_json() -> None:
    assert parse_json('{"a": ["é", {"a": 1e3}]}'.encode()) == {"a": ["é", {"a": 1000.0}]}
    assert parse_json(b"[" * 90 + b"]" * 90)
