from __future__ import annotations

from typing import Any

import pytest

from edgekit.serve.fields import Fields, parse_json
from edgekit.serve.request_error import RequestError


def refused(value: Any, read: str, *arguments: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        getattr(Fields(value), read)("x", *arguments)
    assert (caught.value.status, caught.value.param) == (400, "x")
    return caught.value


def test_a_null_field_is_absent() -> None:
    fields = Fields({"x": None})
    assert (fields.text("x"), fields.whole("x", 1), fields.number("x"), fields.flag("x")) == (None, None, None, False)
    fields.finish()


@pytest.mark.parametrize(
    ("value", "read", "arguments", "message"),
    [
        (1, "text", (), "x is 1; it must be a string"),
        ("\ud800", "text", (), r'x is "\ud800"; it must be valid Unicode, without lone surrogates'),
        ("1", "whole", (1,), 'x is "1"; it must be a whole number, 1 or more'),
        (True, "whole", (0, 5), "x is true; it must be a whole number from 0 to 5"),
        (6, "whole", (0, 5), "x is 6; it must be a whole number from 0 to 5"),
        (1.5, "whole", (0,), "x is 1.5; it must be a whole number, 0 or more"),
        ([], "number", (), "x is []; it must be a number"),
        (1, "flag", (), "x is 1; it must be true or false"),
        ("c", "choice", (("a", "b"),), 'x is "c"; it must be one of: a, b'),
        (2, "only", ((1,), "one is enough"), "x is 2; one is enough"),
        (True, "only", ((1,), "one is enough"), "x is true; one is enough"),
    ],
)
def test_an_error_names_key_value_and_what_is_allowed(
    value: Any, read: str, arguments: tuple[Any, ...], message: str
) -> None:
    assert refused({"x": value}, read, *arguments).message == message


def test_a_long_value_is_cut() -> None:
    assert len(refused({"x": ["y" * 1000]}, "text").message) < 120


def test_an_unknown_field_is_refused_with_the_nearest() -> None:
    fields = Fields({"temprature": 1}, "options")
    fields.number("temperature")
    with pytest.raises(RequestError, match=r"options\.temprature is not a field .*; did you mean temperature\?"):
        fields.finish()


def test_values_of_the_right_kind_are_returned() -> None:
    fields = Fields({"a": "text", "b": 2.0, "c": 0.5, "d": True, "e": "low"})
    assert (fields.text("a"), fields.whole("b", 1), fields.number("c"), fields.flag("d")) == ("text", 2, 0.5, True)
    assert fields.choice("e", ("low", "high")) == "low"
    fields.finish()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\xff", "not UTF-8: invalid start byte at byte 0"),
        (b"{", "not valid JSON: Expecting property name"),
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b"[" * 100_000, "nests too deeply"),
        (b"1" * 10_000, "not valid JSON"),
    ],
)
def test_a_body_that_is_not_json(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_json(body)


def test_a_value_that_is_not_an_object() -> None:
    with pytest.raises(RequestError, match=r"the body is \[\]; it must be a JSON object"):
        Fields([])
