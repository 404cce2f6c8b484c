"""Bounds what a chat template may compute: steps, processor time, the text it produces and the size of one value.

A template is downloaded code. The sandbox keeps it away from files and Python objects, but not from loops without end
or strings of gigabytes. Most limits count, so that a template fails for the same messages on every machine. They grow
with the messages, since long conversations need more. What counting underestimates, such as a loop around a thousand
cheap operations, ends after SECONDS: the clock is read in every loop and every call, at once after those that count
much, and nothing between two readings takes long, because the size of values is bounded. ``template_budget.py`` limits
what several renderings take together.
"""

from __future__ import annotations

import time
from collections.abc import Collection, ItemsView, Iterable, Iterator, KeysView, Mapping, Sized, ValuesView
from itertools import chain
from typing import Any, NoReturn, TypeVar, cast

from jinja2 import TemplateError
from jinja2.utils import Namespace

from .template_budget import Budget

# Templates in use need some tens of steps for a message; 500,000 take about a second.
STEPS, STEPS_PER_CHARACTER = 500_000, 50
# What is produced adds up, because a template may keep all of it: at most 64 MB of memory, four bytes for a character.
PRODUCED, PRODUCED_PER_CHARACTER = 16_000_000, 64
LARGEST, LARGEST_PER_CHARACTER = 2_000_000, 8
BITS = 4096  # of a whole number
SECONDS = 2.0  # of the thread's processor time; templates in use take some milliseconds
NESTING = 500  # lists and dictionaries inside each other; hashing and freeing some ten thousand overflows the stack
ITERATORS = 50  # inside each other; freeing a chain of some ten thousand generators overflows the stack
_CLOCK_EVERY = 16  # calls of step(); fewer if they count much
_STEPS_PER_CALL = 256  # what counts as a further call
_PER_STEP = 64  # characters that take about as long as a step
_ITEM = 8  # characters of memory that an item of a list stands for

# Whole numbers up to here all have hashes of their own, except for -1 and -2. Texts have random hashes.
_HASHED_APART = 1 << 60
_PER_COLLISION = 128  # comparisons of keys that take about as long as a step

_UNCOUNTED = frozenset((bool, float, type(None)))
_SINGLE = _UNCOUNTED | {int}
_VIEWS = (KeysView, ValuesView, ItemsView)
_CONTAINERS = (list, tuple, set, frozenset, Mapping, Namespace, *_VIEWS)

_Value = TypeVar("_Value")


class LimitError(TemplateError):
    """The template exceeds a limit."""


class SharedLimitError(LimitError):
    """The prompts of a command together exceed a limit."""


class Meter:
    """Counts what one rendering computes.

    Args:
        characters: Size of the messages, tools and documents.
        budget: What it shares with other renderings; None: nothing.

    Each method raises :class:`LimitError` beyond a limit.
    """

    def __init__(self, characters: int, budget: Budget | None = None) -> None:
        self._steps = self._most_steps = STEPS + STEPS_PER_CHARACTER * characters
        self._produced = self._most_produced = PRODUCED + PRODUCED_PER_CHARACTER * characters
        self._largest = LARGEST + LARGEST_PER_CHARACTER * characters
        self._budget = budget or Budget(float("inf"))
        self._calls, self._end = 0, time.thread_time() + min(SECONDS, self._budget.left)

    def step(self, count: int = 1) -> None:
        """Count operations; a negative count counts as none."""
        self._steps -= max(count, 0)
        if self._steps < 0:
            raise LimitError(f"it needs more than {self._most_steps} steps")
        self._calls += max(count, 0) // _STEPS_PER_CALL
        self.tick()

    def tick(self) -> None:
        """Read the clock from time to time."""
        self._calls += 1
        if self._calls >= _CLOCK_EVERY:
            self._calls = 0
            if time.thread_time() > self._end:
                self._raise_late()

    def _raise_late(self) -> NoReturn:
        if self._budget.left < SECONDS:
            raise SharedLimitError(
                f"its prompts take more than {self._budget.seconds:g} seconds of processor time in all"
            )
        raise LimitError(f"it takes more than {SECONDS:g} seconds")

    def produce(self, characters: int) -> None:
        """Count text, before it is made where its size is known; a negative size counts as none."""
        self._produced -= max(characters, 0)
        if self._produced < 0:
            raise LimitError(f"it produces more than {self._most_produced} characters")

    def read(self, *values: object) -> int:
        """Count the work of reading values, and return their size in characters."""
        total = sum(map(self.size, values))
        self.step(1 + total // _PER_STEP)
        return total

    def look(self, *values: object) -> None:
        """Count the work of reading texts, and of using other values without looking into them."""
        self.step(1 + sum(len(value) for value in values if isinstance(value, (str, bytes))) // _PER_STEP)

    def sliced(self, value: _Value) -> _Value:
        """Count a part or a copy of a value, whose items are there already, and return it."""
        if isinstance(value, (list, tuple)):
            self.step(len(value) // 8)
            self.produce(_ITEM * len(value))
            return value
        return self.made(value)

    def made(self, value: _Value, depth: int = 1) -> _Value:
        """Count a value that has just been made, and return it; an iterator is counted when it is read.

        Args:
            value: The value.
            depth: For an iterator: how many iterators it reads from, one inside the other, itself included.
        """
        if type(value) in _UNCOUNTED:
            return value
        if isinstance(value, str):
            self.produce(len(value))
            self._bound(len(value))
        elif isinstance(value, (list, tuple, dict)):
            self.produce(_ITEM * len(value))
            self.size(value)
        elif isinstance(value, (bytes, bytearray)):
            self.produce(len(value))
        elif isinstance(value, int):
            self.number(value.bit_length())
        elif isinstance(value, Iterator):
            return Counted(value, self, depth)  # type: ignore[return-value]
        return value

    def number(self, bits: int) -> None:
        """Check the size of a whole number."""
        if bits > BITS:
            raise LimitError(f"it computes a number of more than {BITS} bits")

    def looped(self, value: _Value) -> _Value:
        """Count the items of a value that is iterated over, and return it or an iterator that counts."""
        if isinstance(value, Iterator):
            return Counted(value, self, iterators(value))  # type: ignore[return-value]
        if isinstance(value, Sized):  # otherwise the loop reports an error
            self.step(len(value))
        return value

    def watched(self, value: object) -> object:
        """What a loop goes through instead of a value: it counts the items, and reads the clock with each."""
        looped = self.looped(value)
        return _Watched(looped, self) if isinstance(looped, Collection) else looped

    def size(self, value: object) -> int:
        """The number of characters and items in a value, with everything inside it, as often as it is there.

        Nested lists may hold the same list many times, so that a few lists print as gigabytes.
        """
        if type(value) in _SINGLE:
            return 1
        if isinstance(value, (str, bytes, bytearray)):
            self._bound(len(value))
            return len(value)
        if isinstance(value, range):
            return _ITEM * len(value)
        if not isinstance(value, _CONTAINERS):
            return 1
        total, visited, waiting = 0, 0, [(1, value)]
        while waiting:
            depth, container = waiting.pop()
            self._check_keys(container)
            for member in _members(container):
                visited += 1
                if isinstance(member, (str, bytes, bytearray)):
                    total += len(member)
                else:
                    total += _ITEM
                    if isinstance(member, _CONTAINERS):
                        waiting.append((depth + 1, member))
                        self._bound(total)
            self._bound(total)
            if depth > NESTING:
                raise LimitError(f"it nests more than {NESTING} lists or dictionaries")
        self.step(visited // 8)
        return total

    def _check_keys(self, value: object) -> None:
        """Count the work of finding keys that may all have the same hash, such as tuples of -1 and -2."""
        if isinstance(value, (Mapping, KeysView, ItemsView)) and set(map(type, value)) != {str}:
            keys = (pair[0] for pair in value) if isinstance(value, ItemsView) else iter(value)
            count = sum(type(k) is not str and not (type(k) is int and abs(k) <= _HASHED_APART) for k in keys)
            self.step(count * count // _PER_COLLISION)

    def _bound(self, size: int) -> None:
        if size > self._largest:
            raise LimitError(f"it makes a value of more than {self._largest} characters")


class Counted(Iterator[Any]):
    """An iterator that counts each item.

    Args:
        items: The iterator.
        meter: What counts.
        depth: See :meth:`Meter.made`.
    """

    __slots__ = ("_items", "_meter", "depth")

    def __init__(self, items: Iterator[Any], meter: Meter, depth: int) -> None:
        if depth > ITERATORS:
            raise LimitError(f"it nests more than {ITERATORS} filters that make lists item by item")
        self._items, self._meter, self.depth = items, meter, depth

    def __next__(self) -> Any:
        item = next(self._items)
        self._meter.step()
        self._meter.produce(_ITEM)
        return item


class _Watched(Iterable[Any], Sized):
    """A list or another collection that a loop goes through; its items have been counted."""

    def __init__(self, items: Collection[Any], meter: Meter) -> None:
        self._items, self._meter = items, meter

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._meter.tick()
            yield item


def iterators(*values: object) -> int:
    """How deep the iterators among these values are."""
    return max((value.depth for value in values if isinstance(value, Counted)), default=0)


def _members(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return chain(value.keys(), value.values())
    if isinstance(value, Namespace):
        return list(value._Namespace__attrs.values())  # jinja2 has no other way to it
    return cast(Iterable[object], value)
