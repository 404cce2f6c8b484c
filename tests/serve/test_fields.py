from __future__ import annotations

from typing import Any

import pytest

from edgekit.serve.fields import Either, Flag, Free, Kind, ListOf, Number, Only, Text, Whole, Word
from edgekit.serve.request_error import RequestError


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (1, Text(), "x is 1; it must be a string"),
        ("\ud800", Text(), r'x is "\ud800"; it must be valid Unicode, without lone surrogates'),
        ("", Text(1, allowed="text"), 'x is ""; it must be text'),
        ("abc", Text(most=2, allowed="short"), 'x is "abc"; it must be short'),
        ("1", Whole(1), 'x is "1"; it must be a whole number, 1 or more'),
        (True, Whole(0, 5), "x is true; it must be a whole number, from 0 to 5"),
        (6, Whole(0, 5), "x is 6; it must be a whole number, from 0 to 5"),
        (10**400, Whole(0), f"x is 1{'0' * 59}...; it must be a whole number, 0 or more"),
        (1.5, Whole(0), "x is 1.5; it must be a whole number, 0 or more"),
        ([], Number(0, 1), "x is []; it must be a number from 0 to 1"),
        (float("inf"), Number(0, 1), "x is Infinity; it must be a number from 0 to 1"),
        (10**400, Number(0, 1), f"x is 1{'0' * 59}...; it must be a number from 0 to 1"),
        (0, Number(0, 1, above=True), "x is 0; it must be a number above 0 and at most 1"),
        (True, Number(0, 1), "x is true; it must be a number from 0 to 1"),
        (1, Flag(), "x is 1; it must be true or false"),
        ("c", Word(("a", "b")), 'x is "c"; it must be one of: a, b'),
        (["a"], Word(("a", "b")), 'x is ["a"]; it must be one of: a, b'),
        (2, Only((1,), "one is enough"), "x is 2; one is enough"),
        (True, Only((1,), "one is enough"), "x is true; one is enough"),
        (5, Free(), "x is 5; it must be a JSON object"),
        (5, ListOf(Text()), "x is 5; it must be a list"),
        (["a", "b", "c"], ListOf(Text(), most=2), "x has 3 members; at most 2 are read"),
        ([], ListOf(Text(), least=1, allowed="texts"), "x is []; it must be texts"),
        (5, Either((Text(), Flag()), "text or a flag"), "x is 5; it must be text or a flag"),
    ],
)
def test_an_error_names_key_value_and_what_is_allowed(value: Any, kind: Kind, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        kind.read(value, "x")
    assert (caught.value.status, caught.value.param, caught.value.message) == (400, "x", message)


def test_schemas_say_what_is_read() -> None:
    assert Number(0, 1, above=True).schema({}) == {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    assert Either((Text(1), ListOf(Flag(), 1, 2)), "").schema({}) == {
        "anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
        ]
    }
    assert Only((), "").schema({}) == {"type": "null"}
    assert Only((0,), "").schema({}) == {"enum": [0]}
