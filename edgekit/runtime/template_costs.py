"""What jinja2's filters and Python's string methods may produce from their arguments, estimated before they are called.

Most produce at most a small multiple of what they read, in linear time. The functions here are for the others: a width
makes text of any length, a separator is repeated for each item, and a search from the end of a text takes time in
proportion to both texts. ``tests/runtime/test_template_costs.py`` names every method and filter that needs none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from numbers import Number

from .template_meter import LimitError, Meter

Cost = Callable[[Meter, object, Sequence[object]], int]

_ESCAPED = 12  # characters that one character becomes at most: "&#34;", "%F0%9F%98%80", "\\ud83d\\ude00"
# In a format string: a width or precision of four digits or more, or one that is an argument. The expressions take
# linear time: no two repetitions in a row match the same characters.
_PERCENT_WIDTH = re.compile(r"[-+ #0]*(\d{4}|\d*\*|\d*\.(\d{4}|\*))")  # behind the sign and its key
_BRACE_WIDTH = re.compile(r"\{[^{}]*\{|\{[^{}:]*:[^{}]*\d{4}")
_PARENTHESIS = re.compile(r"[()]")
_TOO_WIDE = "it formats text with a width of more than 999 characters, or with one that is an argument"
# Codecs and error handlers that take linear time. Others include punycode, which takes quadratic time.
_CODECS = frozenset({"ascii", "iso-8859-1", "latin-1", "latin1", "us-ascii", "utf-8", "utf8"})
_ERRORS = frozenset({"ignore", "replace", "strict"})
_PARTS = 100  # of an attribute's name; each is looked up for each item
_ITEMS = 1_000_000  # that one call of a filter goes through: half a second
_INDENT = 1000  # characters of an indentation or a separator of JSON
_SEARCH = 256  # comparisons of characters that take about as long as a step
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


def _joined(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """A separator between the items, of which an attribute may be named."""
    _named(meter, value, arguments[1:])
    items = len(value) if isinstance(value, Sized) else meter.size(value)
    return meter.size(value) + items * (1 + _other(meter, arguments)[1])


def _replaced(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    texts = [argument for argument in arguments if isinstance(argument, str)]
    if type(value) is not str or len(texts) != 2 or any(type(text) is not str for text in texts):  # or it escapes them
        return _separated(meter, value, arguments)
    return len(value) + value.count(texts[0]) * len(texts[1])


def _compared(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """Each character may be compared with each of the arguments': Python searches backwards in this way."""
    meter.step(meter.size(value) * sum(map(meter.size, arguments)) // _SEARCH)
    return 0


def _coded(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    for name in arguments:
        if str(name).lower().replace("_", "-") not in _CODECS | _ERRORS:
            raise LimitError(f"it converts text with {str(name)[:40]!r}; it may use UTF-8, ASCII and Latin-1")
    return 4 * meter.size(value)


def _escaped(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    return _ESCAPED * meter.size(value)


def _json(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """The filter counts what it writes, see :func:`json_size`."""
    if max(_other(meter, arguments)) > _INDENT:
        raise LimitError(f"it indents or separates JSON with more than {_INDENT} characters")
    return 0


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
    meter.step(sum(map(text.count, "{[.")))
    return len(text) + text.count("{") * (1000 + _ESCAPED * sum(map(meter.size, arguments)))


def _searched(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """Regular expressions and wrapping may take quadratic time."""
    size = meter.size(value)
    meter.step(size * size // 256)
    return _per_item(meter, value, arguments)


def _named(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """Each item is looked at, or its attribute ``a.b``, or several, ``a,b``, before the clock is read again."""
    if any(isinstance(a, str) and a.count(".") + a.count(",") >= _PARTS for a in arguments):
        raise LimitError(f"it names an attribute of more than {_PARTS} parts")
    if isinstance(value, Sized) and len(value) > _ITEMS:
        raise LimitError(f"it goes through more than {_ITEMS} items at once")
    return 0


def _sorted(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    _named(meter, value, arguments)
    meter.step(meter.size(value) // 2)
    return 0


def _summed(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """Adding lists copies what has been added so far."""
    _named(meter, value, arguments)
    if isinstance(value, (list, tuple)) and all(isinstance(item, Number) for item in value):
        return 0
    size, count = meter.size(value), len(value) if isinstance(value, (list, tuple)) else 1
    meter.step(size * count // 64)
    return size * count


def _number(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    if (isinstance(value, (str, bytes)) and len(value) > _DIGITS) or _other(meter, arguments)[0] > _DIGITS:
        raise LimitError(f"it computes with more than {_DIGITS} digits")
    return 0


def _arithmetic(meter: Meter, value: object, arguments: Sequence[object]) -> int:
    """``round`` multiplies, and ``odd`` takes a remainder, which formats a text."""
    if isinstance(value, (str, bytes, list, tuple)):
        raise TypeError(f"a number is needed; got a {type(value).__name__}")
    return _number(meter, value, arguments)


FILTERS: Mapping[str, Cost] = {
    "batch": _listed,
    "center": _padded,
    "dictsort": _sorted,
    "e": _escaped,
    "escape": _escaped,
    "filesizeformat": _number,
    "float": _number,
    "forceescape": _escaped,
    "groupby": _sorted,
    "format": _percent,
    "indent": _per_item,
    "int": _number,
    "join": _joined,
    "map": _named,
    "max": _named,
    "min": _named,
    "pprint": _searched,
    "rejectattr": _named,
    "replace": _replaced,
    "round": _arithmetic,
    "selectattr": _named,
    "slice": _listed,
    "sort": _sorted,
    "string": _escaped,
    "striptags": _searched,
    "sum": _summed,
    "title": _searched,
    "tojson": _json,
    "trim": _compared,
    "truncate": _separated,
    "unique": _sorted,
    "urlencode": _escaped,
    "urlize": _searched,
    "wordcount": _searched,
    "wordwrap": _searched,
    "xmlattr": _escaped,
}
TESTS: Mapping[str, Cost] = {"divisibleby": _arithmetic, "even": _arithmetic, "odd": _arithmetic}
METHODS: Mapping[str, Cost] = {
    "center": _padded,
    "decode": _coded,
    "encode": _coded,
    "escape": _escaped,
    "expandtabs": _per_item,
    "format": _braces,
    "format_map": _braces,
    "hex": _separated,
    "join": lambda meter, value, arguments: sum(_joined(meter, items, [value]) for items in arguments),
    "ljust": _padded,
    "lstrip": _compared,
    "replace": _replaced,
    "rfind": _compared,
    "rindex": _compared,
    "rjust": _padded,
    "rpartition": _compared,
    "rsplit": _compared,
    "rstrip": _compared,
    "strip": _compared,
    "striptags": _searched,
    "to_bytes": _padded,
    "translate": lambda meter, value, arguments: (meter.size(value) + 1) * sum(map(meter.size, arguments)),
    "unescape": _searched,
    "zfill": _padded,
}
# These return the value or an item of it, which is there already.
CHOOSING_FILTERS = frozenset({"attr", "d", "default", "first", "last", "random"})
# These look at the value itself or at the number of its items, not at what is in it, or return an iterator that does.
LOOKING_FILTERS = frozenset(
    {
        "attr", "count", "d", "default", "first", "items", "last", "length", "list", "map", "random", "reject",
        "rejectattr", "reverse", "select", "selectattr",
    }
)  # fmt: skip
LOOKING_TESTS = frozenset(
    {
        "boolean", "callable", "defined", "divisibleby", "escaped", "even", "false", "filter", "float", "integer",
        "iterable", "mapping", "none", "number", "odd", "sameas", "sequence", "string", "test", "true", "undefined",
    }
)  # fmt: skip
LOOKING_METHODS = frozenset({"endswith", "get", "items", "keys", "startswith", "values"})
# Of the filters, the items of an iterator are read before the cost is known.
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


def json_size(meter: Meter, value: object, separators: Sequence[str] | None) -> int:
    """The most characters of a value's JSON without line breaks.

    Args:
        meter: What counts.
        value: The value.
        separators: Between items, and between a key and its value; None for the usual ones.
    """
    size = meter.size(value)  # eight for an item
    return _ESCAPED * size + size // 8 * sum(map(len, separators or ()))


def read_first(value: object) -> object:
    """A list of an iterator's items; any other value as it is."""
    return list(value) if isinstance(value, Iterator) else value
