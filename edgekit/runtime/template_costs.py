"""What jinja2's filters and Python's string methods may produce from their arguments, estimated before they are called.

Most produce at most a small multiple of what they read. The functions here are for the others: a width makes text of
any length, and a separator is repeated for each item.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Number

from .template_meter import LimitError, Meter, nesting

Cost = Callable[[Meter, object, Sequence[object]], int]

_ESCAPED = 10  # characters that one character becomes at most: "&#34;", "%F0%9F%98%80", "\\U0001f600"
# In a format string: a width or precision of four digits or more, or one that is an argument. The expressions take
# linear time: no two repetitions in a row match the same characters.
_PERCENT_WIDTH = re.compile(r"[-+ #0]*(\d{4}|\d*\*|\d*\.(\d{4}|\*))")  # behind the sign and its key
_BRACE_WIDTH = re.compile(r"\{[^{}]*\{|\{[^{}:]*:[^{}]*\d{4}")
_PARENTHESIS = re.compile(r"[()]")
_TOO_WIDE = "it formats text with a width of more than 999 characters, or with one that is an argument"
_DIGITS = 400  # of a float, and of text that becomes a number


def _other(meter: Meter, arguments: Sequence[object]) -> tuple[int, int]:
    """The largest whole number among these arguments, and the size of the others."""
    numbers = [abs(a) for a in arguments if isinstance(a, int)]
    return max(numbers, default=0), sum(meter.size(a) for a in arguments if not isinstance(a, int))


def _padded(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    return meter.size(value) + _other(meter, arguments)[0]


def _per_item(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """Each character or item may get all that the arguments stand for."""
    number, text = _other(meter, arguments)
    return (meter.size(value) + 1) * (1 + number + text)


def _separated(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    return (meter.size(value) + 1) * (1 + _other(meter, arguments)[1])


def _listed(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """Lists of about 64 bytes each, as many as a number says."""
    return meter.size(value) + 16 * _other(meter, arguments)[0]


def _escaped(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    return _ESCAPED * meter.size(value)


def _json(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    number, text = _other(meter, arguments)
    return _ESCAPED * meter.size(value) * (1 + (number + text) * nesting(value))


def _percent(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """``"%5d" % x`` and the filter ``format``."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if _has_wide_field(text):
        raise LimitError(_TOO_WIDE)
    return len(text) + text.count("%") * (1000 + _ESCAPED * sum(map(meter.size, arguments)))


def _has_wide_field(text: str) -> bool:
    """Whether a format string of the operator ``%`` has a width or precision that is too large, or an argument."""
    at = text.find("%") + 1
    while at:
        if text.startswith("(", at):
            at = _key_end(text, at)
            if at < 0:  # formatting fails here
                return False
        if _PERCENT_WIDTH.match(text, at):
            return True
        at = text.find("%", at) + 1
    return False


def _key_end(text: str, at: int) -> int:
    """The place behind a key in parentheses, which may nest; -1 if it does not end."""
    depth = 0
    for found in _PARENTHESIS.finditer(text, at):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.end()
    return -1


def _braces(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """``"{:5}".format(x)``."""
    text = str(value)
    if _BRACE_WIDTH.search(text.replace("{{", "")):
        raise LimitError(_TOO_WIDE)
    return len(text) + text.count("{") * (1000 + _ESCAPED * sum(map(meter.size, arguments)))


def _searched(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """Regular expressions and wrapping may take quadratic time."""
    size = meter.size(value)
    meter.step(size * size // 256)
    return _per_item(meter, value, arguments)


def _sorted(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    meter.step(meter.size(value) // 2)
    return 0


def _summed(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """Adding lists copies what has been added so far."""
    if isinstance(value, (list, tuple)) and all(isinstance(item, Number) for item in value):
        return 0
    size, count = meter.size(value), len(value) if isinstance(value, (list, tuple)) else 1
    meter.step(size * count // 64)
    return size * count


def _number(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    if (isinstance(value, (str, bytes)) and len(value) > _DIGITS) or _other(meter, arguments)[0] > _DIGITS:
        raise LimitError(f"it computes with more than {_DIGITS} digits")
    return 0


FILTERS: Mapping[str, Cost] = {
    "batch": _listed,
    "center": _padded,
    "dictsort": _sorted,
    "e": _escaped,
    "escape": _escaped,
    "float": _number,
    "forceescape": _escaped,
    "groupby": _sorted,
    "format": _percent,
    "indent": _per_item,
    "int": _number,
    "join": _separated,
    "pprint": _searched,
    "replace": _separated,
    "round": _number,
    "slice": _listed,
    "sort": _sorted,
    "string": _escaped,
    "striptags": _searched,
    "sum": _summed,
    "title": _searched,
    "tojson": _json,
    "truncate": _separated,
    "unique": _sorted,
    "urlencode": _escaped,
    "urlize": _searched,
    "wordcount": _searched,
    "wordwrap": _searched,
    "xmlattr": _escaped,
}
METHODS: Mapping[str, Cost] = {
    "center": _padded,
    "escape": _escaped,
    "expandtabs": _per_item,
    "format": _braces,
    "format_map": _braces,
    "hex": _separated,
    "join": lambda meter, value, arguments: (meter.size(value) + 1) * sum(map(meter.size, arguments)),
    "ljust": _padded,
    "replace": _separated,
    "rjust": _padded,
    "striptags": _searched,
    "to_bytes": _padded,
    "translate": lambda meter, value, arguments: (meter.size(value) + 1) * sum(map(meter.size, arguments)),
    "unescape": _searched,
    "zfill": _padded,
}
# Of these, the items of an iterator are read before the cost is known.
READ_FIRST = frozenset(
    {
        "batch",
        "dictsort",
        "format",
        "groupby",
        "join",
        "list",
        "pprint",
        "slice",
        "sort",
        "string",
        "sum",
        "tojson",
        "unique",
    }
)


def binary_cost(meter: Meter, operator: str, left: object, right: object) -> None:
    """Count what an operator will produce.

    Args:
        meter: What counts.
        operator: Python's sign for it.
        left, right: The operands.

    Raises:
        LimitError: It is too much.
    """
    meter.read(left, right)
    bits = [v.bit_length() for v in (left, right) if isinstance(v, int)]
    if operator == "%" and isinstance(left, (str, bytes)):
        meter.produce(_percent(meter, left, list(right) if isinstance(right, tuple) else [right]))
    elif len(bits) == 2 and operator == "**" and isinstance(right, int) and right > 0:
        meter.number(bits[0] * min(right, 1 << 32))
    elif len(bits) == 2 and operator == "*":
        meter.number(sum(bits))
    elif operator == "*":
        for value, count in ((left, right), (right, left)):
            if isinstance(count, int) and isinstance(value, (str, bytes, list, tuple)):
                meter.produce(meter.size(value) * max(count, 0))


def read_first(value: object) -> object:
    """A list of an iterator's items; any other value as it is."""
    return list(value) if isinstance(value, Iterator) else value
