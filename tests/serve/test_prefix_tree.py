from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.native import BLOCK
from edgekit.serve.prefix_tree import Block, PrefixTree


def block(number: int) -> Block:
    return np.full(10, number, np.uint8)


def blocks(*numbers: int) -> Callable[[int], Block]:
    return lambda i: block(numbers[i])


def ids(*parts: int, rest: int = 0) -> list[int]:
    """Ids with these whole blocks, and `rest` more."""
    return [part for part in parts for _ in range(BLOCK)] + [99] * rest


def numbers(found: list[Block]) -> list[int]:
    return [int(each[0]) for each in found]


def test_sequences_that_begin_alike_share_their_blocks() -> None:
    tree = PrefixTree(1000)
    tree.insert(ids(1, 2, rest=5), blocks(11, 12))
    tree.insert(ids(1, 3), blocks(0, 13))
    assert tree.held_bytes == 30
    assert numbers(tree.match(ids(1, 2, 4))) == [11, 12]
    assert numbers(tree.match(ids(1, 3))) == [11, 13]
    assert numbers(tree.match(ids(1, rest=BLOCK - 1))) == [11]
    assert tree.match(ids(2, 3)) == []


def test_memory_is_bounded_and_the_ends_not_used_for_the_longest_time_go() -> None:
    tree = PrefixTree(40)
    tree.insert(ids(1, 2), blocks(1, 2))
    tree.insert(ids(1, 3), blocks(1, 3))
    tree.insert(ids(1, 4), blocks(1, 4))
    tree.match(ids(1, 2))
    tree.insert(ids(1, 5), blocks(1, 5))
    assert tree.held_bytes == 40
    assert [len(tree.match(ids(1, last))) for last in (2, 3, 4, 5)] == [2, 1, 2, 2]


def test_a_sequence_that_is_too_long_keeps_its_beginning() -> None:
    tree = PrefixTree(25)
    tree.insert(ids(1, 2, 3), blocks(1, 2, 3))
    assert numbers(tree.match(ids(1, 2, 3))) == [1, 2]
    tree.insert(ids(7), blocks(7))
    assert (numbers(tree.match(ids(1, 2))), numbers(tree.match(ids(7)))) == ([1], [7])
