"""A JSON schema that an answer is held to, compiled and used for some tokens."""

import random
from functools import cache

import fuzz_changes
import numpy as np
from fuzz_files import as_json, text

from edgekit.errors import EdgekitError
from edgekit.json_file import parse_json_object
from edgekit.runtime.constraint import Constraints
from edgekit.runtime.response_format import grammar_of

ALLOWED = (EdgekitError, ValueError)
MEGABYTES = 400  # of which a quarter is the process itself
_ROWS = 320


def seeds() -> list[bytes]:
    name = {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a+$"}
    items = {"type": "array", "items": {"$ref": "#/$defs/x"}, "minItems": 1, "maxItems": 3}
    a = {"$ref": "#/$defs/a"}
    return as_json(
        {"type": "object", "properties": {"a": name, "b": {"enum": ["x", 1, None]}}, "required": ["a"]},
        {"$defs": {"x": {"type": "integer", "minimum": 0, "maximum": 9}}, **items},
        {"anyOf": [{"type": "null"}, {"type": "number", "exclusiveMinimum": 0.5}, {"const": True}]},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "boolean"}, "strict": True}},
        {"type": "number", "minimum": -1.5, "exclusiveMaximum": 1e9, "multipleOf": 0.25},
        {"allOf": [{"type": "integer", "multipleOf": 12}, {"exclusiveMinimum": -9e17}, {"maximum": 9e18}]},
        {"type": "object", "patternProperties": {"^x": {"type": "null"}}, "additionalProperties": {"format": "date"}},
        {"type": "array", "prefixItems": [{"const": "\u00e9"}, {"$ref": "#"}], "items": False, "maxItems": 2},
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 3,
            "additionalProperties": {"type": ["null", "string"]},
        },
        {"$defs": {"a": {"oneOf": [{"$ref": "#/$defs/b"}, {"const": -3}]}, "b": {"enum": [1e-7, -0.0, [], {}]}}, **a},
        {"type": "string", "pattern": "(a|\\d{2,30}|[^x-z]*)+$", "maxLength": 40},
        {"type": "string", "format": "email"},
        {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ?", "lenient": True}, "type": "object"},
    )


@cache
def _constraints() -> Constraints:
    return Constraints(text()[0], _ROWS, [1])


def change(choose, data):
    return fuzz_changes.json_change(choose, data, seeds())


def read(data: bytes) -> None:
    grammar = grammar_of(parse_json_object(data, "the schema"))
    if grammar is not None:
        constraint = _constraints().start(grammar, after_thought=False)
        choose = random.Random(len(data))  # noqa: S311
        for _ in range(8):
            logits = np.zeros(_ROWS, np.float32)
            constraint.apply(logits)
            allowed = np.flatnonzero(np.isfinite(logits))
            if constraint.is_complete or not allowed.size:
                break
            constraint.accept(int(choose.choice(allowed)))
