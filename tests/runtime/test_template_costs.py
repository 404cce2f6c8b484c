"""Filters, methods and operators that could make gigabytes are refused before they do; ordinary ones are not."""

from __future__ import annotations

import pytest

from edgekit.runtime.template_costs import FILTERS, METHODS, binary_cost, read_first
from edgekit.runtime.template_meter import PRODUCED, LimitError, Meter

HUGE = 10**9


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
