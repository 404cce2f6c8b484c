"""Filters, methods and operators that could make gigabytes are refused before they do; ordinary ones are not."""

from __future__ import annotations

import json

import pytest
from jinja2.filters import FILTERS as ALL_FILTERS
from jinja2.sandbox import modifies_known_mutable
from jinja2.tests import TESTS as ALL_TESTS
from markupsafe import Markup

from edgekit.runtime.template_costs import (
    FILTERS,
    LOOKING_FILTERS,
    LOOKING_METHODS,
    LOOKING_TESTS,
    METHODS,
    TESTS,
    binary_cost,
    json_size,
    read_first,
)
from edgekit.runtime.template_meter import PRODUCED, LimitError, Meter

HUGE = 10**9
# What takes linear time, or less, and makes at most a few times what it reads; measured with two million characters.
LINEAR_METHODS = [
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "capitalize",
    "casefold",
    "conjugate",
    "copy",
    "count",
    "find",
    "fromhex",
    "fromkeys",
    "from_bytes",
    "index",
    "from_number",
    "imag",
    "is_integer",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "lower",
    "maketrans",
    "numerator",
    "denominator",
    "partition",
    "real",
    "removeprefix",
    "removesuffix",
    "split",
    "splitlines",
    "swapcase",
    "title",
    "upper",
]
LINEAR_FILTERS = ["abs", "capitalize", "lower", "safe", "upper"]
LINEAR_TESTS = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "eq",
    "equalto",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "le",
    "lessthan",
    "lower",
    "lt",
    "ne",
    "upper",
]


@pytest.mark.parametrize(
    ("name", "value", "arguments"),
    [
        ("center", "x", [HUGE]),
        ("indent", "a\nb", [HUGE]),
        ("indent", "a\n" * 10**5, ["x" * 10**5]),
        ("join", ["a"] * 10**5, ["x" * 10**5]),
        ("join", range(10**5), ["x" * 10**5]),
        ("replace", "a" * 10**5, ["", "x" * 10**5]),
        ("batch", [1], [HUGE, 0]),
        ("slice", [1], [HUGE]),
        ("tojson", [[1]], [HUGE]),
        ("tojson", [1] * 10**4, [("x" * 10**5, ":")]),
        ("trim", "a" * 10**6, ["b" * 10**5 + "a"]),
        ("filesizeformat", "9" * 10**4, []),
        *((name, [{"x": 1}], ["x." * 1000]) for name in ("map", "sort", "sum", "max", "min", "selectattr", "groupby")),
        ("join", [{"x": 1}], ["", "x." * 1000]),
        ("format", "%1000000000d", [1]),
        ("format", "%*d", [HUGE, 1]),
        ("format", "%.*f", [HUGE, 1]),
        ("format", "%(a)5.9999d", [{}]),
        ("format", "%(a(b)c)9999d", [{}]),
        ("format", "%(%d)9999d", [{}]),
        ("format", "%s %% %-09999d", [1]),
        ("round", 1.5, [HUGE]),
        ("int", "9" * 10**4, []),
        ("wordwrap", "a" * 10**6, [1]),
        ("striptags", "<" * 10**6, []),
        ("sum", [[1]] * 10**5, [[]]),
        ("truncate", "a" * 10**4, [1, False, "x" * 10**5]),
    ],
)
def test_filters_that_make_gigabytes(name: str, value: object, arguments: list[object]) -> None:
    meter = Meter(0)
    with pytest.raises(LimitError):
        meter.produce(FILTERS[name](meter, value, arguments))


@pytest.mark.parametrize(
    ("name", "value", "arguments"),
    [
        ("center", "x", [-HUGE]),
        ("ljust", "x", [HUGE]),
        ("zfill", "x", [HUGE]),
        ("expandtabs", "\t" * 10**5, [10**5]),
        ("replace", "a" * 10**5, ["a", "x" * 10**5]),
        ("join", "x" * 10**5, [["a"] * 10**5]),
        ("format", "{:1000000000}", [1]),
        ("format", "{:{}}", [1, HUGE]),
        ("format", "{a:>{w}}", [1, HUGE]),
        ("format_map", "{a:01000d}", [{}]),
        ("translate", "x" * 10**5, [{120: "y" * 10**5}]),
        ("to_bytes", 1, [HUGE]),
        *((name, "a" * 10**6, ["b" * 10**5 + "a"]) for name in ("strip", "lstrip", "rstrip")),
        *((name, "a" * 10**6, ["ab" + "a" * 10**5]) for name in ("rfind", "rindex", "rsplit", "rpartition")),
        ("rfind", b"a" * 10**6, [b"ab" + b"a" * 10**5]),
        ("format", "{0" + "[0]" * 600_000 + "}", ["a"]),
        *((name, "a", [codec]) for name in ("encode", "decode") for codec in ("punycode", "idna", "unicode_escape")),
        ("encode", "a", ["ascii", "namereplace"]),
    ],
)
def test_methods_that_make_gigabytes(name: str, value: object, arguments: list[object]) -> None:
    meter = Meter(0)
    with pytest.raises(LimitError):
        meter.produce(METHODS[name](meter, value, arguments))


@pytest.mark.parametrize(
    ("operator", "left", "right"),
    [
        ("*", "x", HUGE),
        ("*", HUGE, [0]),
        ("*", (1,), HUGE),
        ("*", b"x", HUGE),
        ("*", 1 << 4000, 1 << 4000),
        ("**", 9, 9**9),
        ("**", 10, 10**8),
        ("%", "%1000000000d", 1),
        ("%", "%*d", (HUGE, 1)),
    ],
)
def test_operators_that_make_gigabytes(operator: str, left: object, right: object) -> None:
    with pytest.raises(LimitError):
        binary_cost(Meter(0), operator, left, right)


@pytest.mark.parametrize("text", ["%(" * 10**5, "%(" + ")" * 10**5, "%" + "0" * 3, "%-+ #" * 10**5])
def test_fields_are_looked_for_in_linear_time(text: str) -> None:
    assert FILTERS["format"](Meter(0), text, [1]) > 0


@pytest.mark.parametrize("text", ["{" + ":" * 10**5, "{" + ":1" * 10**5, "{}" * 10**5, "{" + "a" * 10**5])
def test_fields_in_braces_are_looked_for_in_linear_time(text: str) -> None:
    assert METHODS["format"](Meter(0), text, [1]) > 0


def test_every_method_filter_and_test_has_a_cost_or_is_known_to_be_cheap() -> None:
    methods = {
        name
        for value in ("", b"", 1, 1.5, (), [], {}, Markup(""))
        for name in dir(value)
        if not name.startswith("_") and not modifies_known_mutable(value, name)
    }
    assert methods - set(LINEAR_METHODS) - set(METHODS) - LOOKING_METHODS == set()
    assert set(ALL_FILTERS) - set(LINEAR_FILTERS) - set(FILTERS) - LOOKING_FILTERS == set()
    assert set(ALL_TESTS) - set(LINEAR_TESTS) - set(TESTS) - LOOKING_TESTS == set()


@pytest.mark.parametrize("name", ["dictsort", "groupby", "join", "max", "min", "sort", "sum", "unique"])
def test_one_call_goes_through_so_many_items(name: str) -> None:
    assert FILTERS[name](Meter(10**7), range(10**6), []) >= 0
    with pytest.raises(LimitError, match="it goes through more than 1000000 items at once"):
        FILTERS[name](Meter(10**7), range(10**6 + 1), [])


@pytest.mark.parametrize("value", ["%1000000000d", b"%1000000000d", [1], (1,)])
def test_arithmetic_needs_numbers(value: object) -> None:
    for cost in (FILTERS["round"], TESTS["odd"], TESTS["even"], TESTS["divisibleby"]):
        with pytest.raises(TypeError, match="a number is needed; got a"):
            cost(Meter(0), value, [9])
        assert cost(Meter(0), 5, [2]) == 0


@pytest.mark.parametrize("codec", ["utf-8", "UTF-8", "utf_8", "utf8", "ascii", "latin-1", "latin_1", "iso-8859-1"])
def test_ordinary_codecs_are_allowed(codec: str) -> None:
    for arguments in ([codec], [codec, "replace"], []):
        assert METHODS["encode"](Meter(0), "abc", arguments) == 12
        assert METHODS["decode"](Meter(0), b"abc", arguments) == 12


def test_costs_are_in_proportion_to_what_is_made() -> None:
    """A long conversation is searched for several tags, and its texts are joined."""
    text = "word " * 10_000
    assert METHODS["replace"](Meter(0), text, ["<think>", ""]) == len(text)
    assert METHODS["replace"](Meter(0), text, [" ", "  "]) == len(text) + 20_000
    escaping = Markup("a b")
    assert METHODS["replace"](Meter(0), escaping * 999, [" ", "  "]) > 4000
    assert FILTERS["join"](Meter(0), [text] * 3, ["\n" * 9]) == 3 * len(text) + 30
    assert METHODS["join"](Meter(0), "\n" * 9, [[text] * 3]) == 3 * len(text) + 30


@pytest.mark.parametrize("value", ["\x01" * 99, "🙂" * 99, [[], "a", {"b": 1.5}] * 99, [None] * 999])
def test_json_is_no_longer_than_estimated(value: object) -> None:
    for separators in (None, (", " * 40, ": " * 40)):
        assert len(json.dumps(value, separators=separators)) <= json_size(Meter(0), value, separators) + 2


def test_ordinary_uses_cost_little() -> None:
    meter = Meter(0)
    for operator, left, right in (
        ("*", "-", 80), ("*", 3, 4), ("**", 2, 10), ("**", 2, -3), ("**", 2.5, 2), ("%", 7, 2), ("+", "a", "b"),
        ("%", "%s in 2024: %5d, %05.2f, 100%%", ("x", 1, 2.5)),
    ):  # fmt: skip
        binary_cost(meter, operator, left, right)
    for name, value, arguments in (
        ("tojson", {"a": [1, {"b": "c"}]}, [4]), ("join", ["a", "b"], [", "]), ("indent", "a\nb", [4]),
        ("replace", "a b", [" ", "_"]), ("format", "%s in 2024", ["x"]), ("round", 1.25, [1]), ("sum", [1, 2], []),
    ):  # fmt: skip
        meter.produce(FILTERS[name](meter, value, arguments))
    for name, value, arguments in (("format", "{} in {:>5} and {{2024}}", [1, 2]), ("join", ", ", [["a", "b"]])):
        meter.produce(METHODS[name](meter, value, arguments))
    meter.produce(PRODUCED - 100_000)


def test_iterators_are_read_before_their_cost_is_known() -> None:
    assert read_first(iter("ab")) == ["a", "b"]
    assert read_first("ab") == "ab"
