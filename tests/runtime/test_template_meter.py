"""What a template may compute is bounded, whatever its values hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import cast

import pytest
from jinja2.utils import Namespace

from edgekit.runtime.template_budget import Budget
from edgekit.runtime.template_meter import (
    BITS,
    ITERATORS,
    LARGEST,
    LARGEST_PER_CHARACTER,
    PRODUCED,
    SECONDS,
    STEPS,
    STEPS_PER_CHARACTER,
    LimitError,
    Meter,
    SharedLimitError,
    iterators,
    nesting,
)


def doubled(times: int) -> list[object]:
    """A few lists that stand for 2^times numbers."""
    value: list[object] = [1]
    for _ in range(times):
        value = [value, value]
    return value


def test_steps_add_up_and_long_messages_allow_more() -> None:
    meter = Meter(10)
    meter.step(STEPS)
    meter.step(10 * STEPS_PER_CHARACTER)
    with pytest.raises(LimitError, match=f"more than {STEPS + 10 * STEPS_PER_CHARACTER} steps"):
        meter.step()


def test_text_that_is_made_adds_up() -> None:
    meter, text = Meter(0), "x" * 1_000_000
    for _ in range(PRODUCED // len(text)):
        assert meter.made(text) is text
    with pytest.raises(LimitError, match="produces more than 16000000 characters"):
        meter.made("x")


def test_a_single_value_has_a_limit() -> None:
    assert Meter(1).size("x" * (LARGEST + LARGEST_PER_CHARACTER)) == LARGEST + LARGEST_PER_CHARACTER
    for value in ("x" * (LARGEST + 1), ["x" * LARGEST, 1], doubled(60), {"a": doubled(60)}, b"x" * (LARGEST + 1)):
        with pytest.raises(LimitError, match="a value of more than 2000000 characters"):
            Meter(0).read(value)


def test_namespaces_and_views_are_looked_into() -> None:
    inner = Namespace(v="abc")
    for _ in range(60):
        inner = Namespace(a=inner, b=inner)
    for value in (inner, {"a": doubled(60)}.values(), (inner,)):
        with pytest.raises(LimitError):
            Meter(0).size(value)


@pytest.mark.parametrize(
    ("value", "size"), [("abc", 3), (None, 1), (5, 1), (["ab", 1], 10), ({"k": ["abc"]}, 12), (range(4), 32), ((), 0)]
)
def test_sizes(value: object, size: int) -> None:
    assert Meter(0).size(value) == size


def test_iterators_count_as_they_are_read() -> None:
    meter = Meter(0)
    assert list(meter.looped(iter("abc"))) == ["a", "b", "c"]
    assert meter.looped([1]) == [1]
    endless: Callable[[], int] = lambda: 1  # noqa: E731
    with pytest.raises(LimitError, match="it needs more"):
        list(meter.made(iter(endless, 2)))
    with pytest.raises(LimitError):
        meter.looped(range(10**9))


def test_numbers_have_a_limit() -> None:
    assert Meter(0).made(1 << (BITS - 1))
    with pytest.raises(LimitError, match="more than 4096 bits"):
        Meter(0).made(1 << BITS)


def test_nesting() -> None:
    assert [nesting(v) for v in ("a", [], [1], [[1], 2], {"a": [{}]})] == [1, 1, 1, 2, 3]


def test_iterators_inside_iterators_are_bounded() -> None:
    meter = Meter(0)
    chain: Iterator[int] = iter([1])
    for depth in range(1, ITERATORS + 1):
        chain = meter.made(map(int, chain), depth)
    assert iterators(chain, [chain], 3) == ITERATORS
    with pytest.raises(LimitError, match="it nests more than 50 filters"):
        meter.made(map(int, chain), ITERATORS + 1)


def test_the_clock_stops_what_counting_underestimates(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("edgekit.runtime.template_meter.time.thread_time", lambda: now[0])
    meter = Meter(10**9)
    loop = meter.watched(["a"] * 1000)
    assert isinstance(loop, Iterable)
    assert isinstance(loop, Sized)
    assert len(loop) == 1000
    assert len(list(loop)) == 1000
    now[0] = SECONDS + 0.1
    with pytest.raises(LimitError, match="it takes more than 2 seconds"):
        list(loop)
    assert meter.watched(None) is None  # the loop itself reports what it cannot go through


def test_what_is_left_of_a_budget_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("edgekit.runtime.template_meter.time.thread_time", lambda: now[0])
    budget = Budget(20.0)
    budget.left = 0.5
    meter = Meter(0, budget)
    now[0] = 0.4
    list(cast(Iterable[str], meter.watched(["a"] * 100)))
    now[0] = 0.6
    with pytest.raises(SharedLimitError, match="its prompts take more than 20 seconds of processor time in all"):
        list(cast(Iterable[str], meter.watched(["a"] * 100)))
