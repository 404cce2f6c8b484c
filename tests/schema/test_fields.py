"""The types of values in files from outside."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edgekit.errors import ArtifactError, CheckpointError
from edgekit.schema.fields import Either, Field, Items, Number, Optional, Table, Text, Truth, Whole, check_table

IDS = Either(Whole(0, 9), Items(Whole(0, 9), most=2))


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (Whole(1, 8), [1, 8], [0, 9, 4.0, True, "4", None, [4], 2**80]),
        (Number(0, 1), [0, 1, 0.5], [-1e-9, 1.1, math.nan, math.inf, True, "0", None]),
        (Number(0, 1, above=True), [1, 1e-30], [0, 0.0]),
        (Truth(), [True, False], [0, 1, "true", None]),
        (Text(longest=3), ["", "abc"], ["abcd", 3, None, ["a"]]),
        (Text(("a", "b")), ["a"], ["c", ""]),
        (Items(Whole(), least=1, most=2), [[1], (1, 2)], [[], [1, 2, 3], [0], "12", {"a": 1}]),
        (Optional(Whole()), [None, 1], [0, "x"]),
        (Optional(Items(Whole())), [None, [1]], [[0]]),
        (IDS, [0, [], [9, 9]], [10, [10], [1, 2, 3], "x", None]),
        (Table({"a": Whole()}, required=("a",)), [{"a": 1}, {"a": 1, "b": "any"}], [{}, {"a": 0}, {"a": None}, [], 3]),
        (Table({"a": Whole()}, nulls=True), [{}, {"a": None}], [{"a": "x"}]),
        (Table({}, others=Truth()), [{}, {"x": True}], [{"x": 1}, {"x": None}]),
    ],
)
def test_what_a_field_accepts(field: Field, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if list(field.problems(value, "key"))] == []
    assert [value for value in bad if not list(field.problems(value, "key"))] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"eps": 1e30}, "f.json: eps is 1e+30; it must be a number from 0 to 1"),
        ({"inner": {"deep": [1, "x"]}}, "f.json: inner.deep[1] is 'x'; it must be a whole number from 1 to 9"),
        ({"inner": 3}, "f.json: inner is 3; it must be an object"),
        ({"by": {"a.b": {"n": 0}}}, "f.json: by 'a.b': n is 0; it must be a whole number from 1 to 9"),
        ({"by": {"a.b": False}}, "f.json: by 'a.b' is false; it must be an object"),
        ({"kind": "c"}, "f.json: kind is 'c'; it must be one of 'a', 'b'"),
        ({"eps": "x" * 500}, f"f.json: eps is '{'x' * 59}...; it must be a number from 0 to 1"),
        ({"eps": [0] * 500}, "f.json: eps is a list of 500 values; it must be a number from 0 to 1"),
    ],
)
def test_the_message_names_the_key_the_value_and_what_is_allowed(content: dict[str, Any], message: str) -> None:
    digit = Whole(1, 9)
    table = {
        "eps": Number(0, 1),
        "inner": Table({"deep": Items(digit)}),
        "by": Table({}, others=Table({"n": digit})),
        "kind": Text(("a", "b")),
    }
    with pytest.raises(CheckpointError) as failure:
        check_table(content, table, "f.json", CheckpointError, "fix it")
    assert (failure.value.message, failure.value.hint) == (message, "fix it")


def test_null_stands_for_a_missing_key_where_a_mapping_is_given() -> None:
    check_table({"a": None}, {"a": Whole()}, "f.json", CheckpointError)
    with pytest.raises(ArtifactError, match=r"^f\.json: a is null; it must be a whole number"):
        check_table({"a": None}, Table({"a": Whole()}), "f.json", ArtifactError)
    with pytest.raises(ArtifactError, match=r"^f\.json lacks a$"):
        check_table({}, Table({"a": Whole()}, required=("a",)), "f.json", ArtifactError)
