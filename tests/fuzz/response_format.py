"""A JSON schema that an answer is held to, compiled and used."""

from functools import cache

import fuzz_changes
import numpy as np
from fuzz_files import as_json, text

from edgekit.errors import EdgekitError
from edgekit.json_file import parse_json_object
from edgekit.runtime.constraint import Constraints
from edgekit.runtime.response_format import grammar_of

ALLOWED = (EdgekitError, ValueError)
_ROWS = 320


def seeds() -> list[bytes]:
    name = {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a+$"}
    items = {"type": "array", "items": {"$ref": "#/$defs/x"}, "minItems": 1, "maxItems": 3}
    return as_json(
        {"type": "object", "properties": {"a": name, "b": {"enum": ["x", 1, None]}}, "required": ["a"]},
        {"$defs": {"x": {"type": "integer", "minimum": 0, "maximum": 9}}, **items},
        {"anyOf": [{"type": "null"}, {"type": "number", "exclusiveMinimum": 0.5}, {"const": True}]},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "boolean"}, "strict": True}},
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
        constraint.apply(np.zeros(_ROWS, np.float32))
