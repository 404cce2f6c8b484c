"""A JSON schema as a rule of a grammar, within the limits of llguidance.

llguidance compiles a schema with functions that call themselves, and with tables as large as numbers in the schema. It
limits most of what this can lead to. The other limits are here, because a server gets schemas from strangers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

_MOST_NESTING = 100  # llguidance's own reader ends at 128
# llguidance follows references by calls within calls. On a stack of 8 MiB, version 1.9 follows 800 definitions of three
# or four levels each, and not 1600. It gets one of 64 MiB (constraint.py).
_MOST_LEVELS = 2000
# llguidance 1.9 does not expect that a magnitude overflows: -9223372036854775296 ends the process.
_LEAST_NUMBER = -9e18
# A number is divided digit by digit, with a state for each remainder. multipleOf 99999 takes 0.4 s and 50 MB.
_MOST_REMAINDERS = 100_000


def schema_rule(schema: Mapping[str, Any], whitespace: str, what: str) -> str:
    """A schema in llguidance's dialect of Lark, to stand after the name of a rule.

    Args:
        schema: The schema. Its own ``x-guidance`` comes before ``whitespace``.
        whitespace: A regular expression for white space between the parts of the answer.
        what: The schema, for messages.

    Raises:
        ValueError: The schema is no JSON, nests too deeply, directly or through references, or has a number that is
            out of range.
    """
    _check(schema, what)
    try:
        return f"%json {json.dumps({'x-guidance': {'whitespace_pattern': whitespace}, **schema})}"
    except TypeError as error:
        raise ValueError(f"{what} cannot be written as JSON: {error}") from None


@dataclass
class _Survey:
    """What a schema has anywhere, also where it is no part of the schema, such as in a constant."""

    what: str
    references: set[str] = field(default_factory=set)
    divisors: list[int] = field(default_factory=list)
    heights: dict[int, int] = field(default_factory=dict)  # of lists and mappings, by their id

    def height(self, content: Any, depth: int = 0) -> int:
        """The levels of lists and mappings, which this adds to ``heights``."""
        if not isinstance(content, (Mapping, list, tuple)):
            return 0
        known = self.heights.get(id(content))
        if depth + (known or 1) > _MOST_NESTING:
            raise ValueError(f"{self.what} is nested more than {_MOST_NESTING} levels deep")
        if known is None:
            entries = content.items() if isinstance(content, Mapping) else enumerate(content)
            known = 1 + max((self._entry(key, value, depth + 1) for key, value in entries), default=0)
            self.heights[id(content)] = known
        return known

    def _entry(self, key: Any, value: Any, depth: int) -> int:
        if key == "$ref" and isinstance(value, str):
            self.references.add(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value < _LEAST_NUMBER:
                raise ValueError(f"{self.what} has the number {value}; allowed: {_LEAST_NUMBER:.0e} or more")
            if key == "multipleOf" and 0 < abs(value) < math.inf:
                self.divisors.append(_digits(abs(value)))
        return self.height(value, depth)


def check_multiples(schemas: Iterable[Mapping[str, Any]], what: str) -> None:
    """Check the numbers of ``multipleOf`` in schemas that one grammar has.

    Args:
        schemas: The schemas, each within the limits of :func:`schema_rule`.
        what: The schemas, for messages.

    Raises:
        ValueError: They are too large.
    """
    survey = _Survey(what)
    for schema in schemas:
        survey.height(schema)
    _check_divisors(survey.divisors, what)


def _check(schema: Mapping[str, Any], what: str) -> None:
    survey = _Survey(what)
    levels = whole = survey.height(schema)
    for reference in survey.references:  # each is followed at most once on the way to a leaf
        target = _resolved(schema, reference)
        levels += 1 + (whole if target is None else survey.heights.get(id(target), 0))
    if levels > _MOST_LEVELS:
        raise ValueError(f"the references of {what} lead through {levels} levels; allowed: {_MOST_LEVELS}")
    _check_divisors(survey.divisors, what)


def _check_divisors(divisors: Sequence[int], what: str) -> None:
    remainders = max(sum(divisors), math.lcm(*divisors))
    if remainders > _MOST_REMAINDERS:
        raise ValueError(
            f"too large numbers for multipleOf in {what}: without decimal points, their sum or their least common "
            f"multiple is {remainders}; allowed: {_MOST_REMAINDERS}"
        )


def _resolved(schema: Mapping[str, Any], reference: str) -> Any:
    """What a reference points at; None if it is no path from the top of the schema."""
    at: Any = schema
    if not reference.startswith("#/"):
        return None
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(at, Mapping) and key in at:
            at = at[key]
        elif isinstance(at, (list, tuple)) and key.isascii() and key.isdigit() and len(key) < 9 and int(key) < len(at):
            at = at[int(key)]
        else:
            return None
    return at


def _digits(value: float) -> int:
    """The digits of a number without the decimal point: 25 for 0.25."""
    if value == int(value):
        return int(value)
    return int("".join(map(str, Decimal(str(value)).as_tuple().digits)))
