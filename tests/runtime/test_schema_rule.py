from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tiny_artifact import BOS, EOS
from tiny_checkpoint import tokenizer as tiny_tokenizer

from edgekit.runtime.constraint import Constraints
from edgekit.runtime.response_format import Grammar
from edgekit.runtime.schema_rule import schema_rule
from edgekit.runtime.tokenizer import Tokenizer

TOKENIZER = Tokenizer(tiny_tokenizer(), bos=BOS, add_bos=True)
ROWS = 320


def chain(length: int, **first: Any) -> dict[str, Any]:
    """Definitions that refer to the next one. Each has two levels, and is followed by a third."""
    defs: dict[str, Any] = {f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(length)}
    return {"$defs": {**defs, f"d{length}": {"type": "null"}}, "$ref": "#/$defs/d0", **first}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def objects(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


CYCLE: dict[str, Any] = {}
CYCLE["items"] = CYCLE
SHARED: list[Any] = [1]
for _ in range(90):
    SHARED = [SHARED, SHARED]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"const": -(2**63)}, "the schema has the number -9223372036854775808; allowed: -9e\\+18 or more"),
        ({"enum": [1, -9223372036854775296]}, "the number -9223372036854775296"),
        (objects(a={"type": "integer", "minimum": -1e19, "maximum": -1e19}), "the number -1e\\+19"),
        (nested(101), "nested more than 100 levels"),
        ({"const": [[nested(99)]]}, "nested more than 100 levels"),
        (CYCLE, "nested more than 100 levels"),
        (chain(700), "lead through [0-9]+ levels; allowed: 2000"),
        ({"$defs": {f"d{i}": {"$ref": f"#d{i + 1}", "$id": f"#d{i}"} for i in range(700)}}, "allowed: 2000"),
        ({"multipleOf": 100_001}, "their sum or their least common multiple is 100001; allowed: 100000"),
        ({"multipleOf": 1234.567}, "multiple is 1234567;"),
        ({"multipleOf": -2147483649}, "multiple is 2147483649;"),
        ({"multipleOf": 1e300}, "too large numbers for multipleOf in the schema: "),
        ({"allOf": [{"multipleOf": 999}, {"multipleOf": 1.01}]}, "multiple is 100899;"),
        (objects(**{f"k{i}": {"multipleOf": 20_000} for i in range(6)}), "multiple is 120000;"),
        ({"const": {1, 2}}, "the schema cannot be written as JSON: .*set"),
    ],
)
def test_what_is_beyond_a_limit_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schema_rule(schema, " ?", "the schema")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": -9e18, "maximum": 9e18},
        nested(100),
        chain(600),
        chain(600, properties={str(i): {"$ref": "#"} for i in range(300)}),
        objects(a={"multipleOf": 0.25}, b={"multipleOf": 0.25}, c={"multipleOf": 1000}, d={"multipleOf": 99}),
        {"type": "number", "multipleOf": 99_991, "minimum": -1000.5, "maximum": 1e9},
        {"anyOf": [{"$ref": "#/anyOf/1"}, {"type": "array", "items": {"$ref": "#/$defs/a~1b"}}], "$defs": {"a/b": {}}},
    ],
)
def test_what_is_within_the_limits_is_compiled(schema: dict[str, Any]) -> None:
    rule = schema_rule(schema, " ?", "the schema")
    assert rule.startswith("%json ")
    assert json.loads(rule[6:]) == {"x-guidance": {"whitespace_pattern": " ?"}, **schema}
    constraint = Constraints(TOKENIZER, ROWS, [EOS]).start(Grammar(schema=schema), after_thought=False)
    logits = np.zeros(ROWS, np.float32)
    constraint.apply(logits)
    assert np.isfinite(logits).any()


def test_what_occurs_often_is_looked_at_once() -> None:
    with pytest.raises(ValueError, match="allowed: 2000"):
        schema_rule({"a": SHARED, **chain(700)}, " ?", "the schema")
    with pytest.raises(ValueError, match="allowed: 2000"):
        schema_rule({"$defs": {f"d{i}": {"$ref": f"#/x{i}"} for i in range(20_000)}}, " ?", "the schema")


def test_the_schema_says_itself_what_white_space_there_is() -> None:
    assert json.loads(schema_rule({"x-guidance": {"whitespace_pattern": ""}}, " ?", "")[6:]) == {
        "x-guidance": {"whitespace_pattern": ""}
    }
