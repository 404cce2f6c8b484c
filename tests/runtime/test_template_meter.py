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
    NESTING,
    PRODUCED,
    SECONDS,
    STEPS,
    STEPS_PER_CHARACTER,
    LimitError,
    Meter,
    SharedLimitError,
    iterators,
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


def test_negative_counts_give_nothing_back() -> None:
    meter = Meter(0)
    meter.produce(-(10**12))
    meter.step(-(10**12))
    meter.step(STEPS - 1)
    meter.produce(PRODUCED)
    with pytest.raises(LimitError, match="produces more"):
        meter.produce(1)
    with pytest.raises(LimitError, match="needs more"):
        meter.step(2)


def test_looking_at_a_list_costs_the_same_for_any_size() -> None:
    meter = Meter(0)
    for _ in range(1000):
        meter.look([["a"] * 10**6])
    meter.step(STEPS - 1001)
    with pytest.raises(LimitError, match="it needs more"):
        meter.look("a" * 1000)


def test_a_part_of_a_list_costs_its_length_not_what_is_in_it() -> None:
    part = [["a" * 1000]] * 100
    meter = Meter(0)
    for _ in range(1000):
        assert meter.sliced(part) is part
    meter = Meter(0)
    meter.sliced(["a"] * (PRODUCED // 8))
    with pytest.raises(LimitError, match="produces more"):
        meter.sliced(["a"])


def test_nesting_has_a_limit() -> None:
    value: list[object] = []
    for _ in range(NESTING - 1):
        value = [value]
    assert Meter(0).size(value) == 8 * (NESTING - 1)
    with pytest.raises(LimitError, match="it nests more than 500 lists or dictionaries"):
        Meter(0).size([value])


@pytest.mark.parametrize("key", [lambda i: i * (2**61 - 1), lambda i: tuple(-1 - (i >> b & 1) for b in range(14))])
def test_keys_that_may_have_the_same_hash_cost_more(key: Callable[[int], object]) -> None:
    count = 2**14
    assert Meter(0).size(dict.fromkeys(map(str, range(count)))) > count
    assert Meter(0).size(dict.fromkeys(range(count))) > count
    hashed = dict.fromkeys(key(i) for i in range(200))
    for value in (hashed, hashed.keys(), hashed.items()):
        meter = Meter(0)
        meter.step(STEPS - 100)
        with pytest.raises(LimitError, match="steps"):
            meter.size(value)


def test_the_clock_is_read_after_each_large_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("edgekit.runtime.template_meter.time.thread_time", lambda: now[0])
    meter = Meter(0)
    now[0] = SECONDS + 0.1
    meter.step()
    with pytest.raises(LimitError, match="it takes more than 2 seconds"):
        meter.step(10_000)


def test_numbers_have_a_limit() -> None:
    assert Meter(0).made(1 << (BITS - 1))
    with pytest.raises(LimitError, match="more than 4096 bits"):
        Meter(0).made(1 << BITS)


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
