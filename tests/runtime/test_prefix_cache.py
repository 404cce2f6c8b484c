"""Prompts on an engine that holds their beginnings already, and what the next prompt begins with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.errors import EvaluationCancelledError
from edgekit.runtime.prefix_cache import PIECE, PrefixCache, common_prefix, next_start


class CountingEngine:
    """Remembers the sizes of what it evaluates, and its sequence."""

    name, kernel, on_processor, threads, kv_type, cache_bytes = "counting", "none", True, 1, "float16", 0
    vocab_size, context, position = 8, 2000, 0

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.ids: list[int] = []
        self.fails_at = -1  # position

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        if len(self.ids) == self.fails_at:
            raise EvaluationCancelledError("the call was cancelled")
        self.sizes.append(len(ids))
        self.ids += ids
        return np.zeros((1, self.vocab_size), np.float32)

    def rewind(self, length: int) -> None:
        del self.ids[length:]

    def close(self) -> None:
        pass


THOUGHT = [1, 2, 3, 9, 9, 9]  # a prompt of three ids, and a thought
START = [1, 2, 3, *[4, 5, 6] * 150]
PIECES = [PIECE, PIECE, 450 - 2 * PIECE]


def cache_with(ids: Sequence[int]) -> tuple[PrefixCache, CountingEngine]:
    engine = CountingEngine()
    cache = PrefixCache(engine)
    cache.prompt(ids)
    engine.sizes = []
    return cache, engine


def test_a_prompt_evaluates_what_the_engine_does_not_hold() -> None:
    cache, engine = cache_with(THOUGHT)
    cache.prompt([1, 2, 3, 7, 7])
    assert (engine.ids, engine.sizes) == ([1, 2, 3, 7, 7], [2])
    cache.prompt([1, 2, 3, 7, 7])
    assert engine.sizes == [2, 1]
    cache.append([5])
    assert engine.ids == [1, 2, 3, 7, 7, 5]
    cache.set([])
    cache.prompt([1, 2])
    assert engine.sizes == [2, 1, 1, 2]


def test_a_beginning_is_prepared_in_pieces() -> None:
    cache, engine = cache_with(THOUGHT)
    cache.prepare(START, lambda: True)
    assert (engine.ids, engine.sizes) == (START, PIECES)
    cache.prompt([*START, 7, 7])
    assert engine.sizes == [*PIECES, 2]


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_prompt_takes_the_same_pieces_when_the_preparation_ended_early(allowed: int) -> None:
    cache, engine = cache_with(THOUGHT)
    turns = iter(range(allowed + 1))
    cache.prepare(START, lambda: next(turns) < allowed)
    assert engine.sizes == PIECES[: max(allowed - 1, 0)]
    cache.prompt([*START, 7, 7])
    assert (engine.ids, engine.sizes) == ([*START, 7, 7], [*PIECES, 2])


def test_a_cancelled_preparation_keeps_what_was_evaluated() -> None:
    cache, engine = cache_with(THOUGHT)
    engine.fails_at = 3 + PIECE
    with pytest.raises(EvaluationCancelledError):
        cache.prepare(START, lambda: True)
    engine.fails_at = -1
    cache.prompt([*START, 7, 7])
    assert (engine.ids, engine.sizes) == ([*START, 7, 7], [*PIECES, 2])


def test_another_prompt_does_not_take_the_pieces() -> None:
    cache, engine = cache_with(THOUGHT)
    cache.prepare(START, lambda: False)
    cache.prompt([*START[:-1], 7, 7])
    assert engine.sizes == [451]


def test_what_is_held_or_does_not_fit_is_not_prepared() -> None:
    cache, engine = cache_with(THOUGHT)
    cache.prepare([*THOUGHT, 5], lambda: True)
    cache.prepare([1, *[2] * engine.context], lambda: True)
    assert (engine.ids, engine.sizes) == (THOUGHT, [])


def test_every_next_prompt_begins_with_the_next_start() -> None:
    assert next_start(lambda question: [1, 2, 3, ord(question), 4]) == [1, 2, 3]


def test_common_prefix() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 4]) == 2
    assert common_prefix([], [1]) == 0
    assert common_prefix([2], [1]) == 0
