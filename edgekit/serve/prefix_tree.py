"""The beginnings of earlier prompts and answers in blocks: a tree in which sequences that begin alike share them.

A node is a block of ``native.BLOCK`` tokens with its keys and values; its path from the root is the text before it.
Sequences come here when their KV cache is needed for something else (:mod:`~edgekit.serve.slots`), and are copied back
when a prompt begins like them. Copying a block takes about a thousandth of the time of computing it. If memory is
short, the blocks at the ends of sequences that were not used for the longest time are dropped, so a beginning that
many sequences share outlives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..native import BLOCK

Block = NDArray[np.uint8]


class _Node:
    def __init__(self, parent: _Node | None, ids: tuple[int, ...], block: Block | None) -> None:
        self.parent, self.ids, self.block = parent, ids, block
        self.children: dict[tuple[int, ...], _Node] = {}
        self.last_use = 0


class PrefixTree:
    """Blocks of earlier sequences. Used by one thread.

    Args:
        limit_bytes: The most memory of the blocks.

    Attributes:
        held_bytes: The memory of the blocks.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._root = _Node(None, (), None)
        self._uses = 0
        self.held_bytes = 0

    def match(self, ids: Sequence[int]) -> list[Block]:
        """The blocks of the longest beginning of these ids that is held. Counts as a use."""
        self._uses += 1
        node, found = self._root, list[Block]()
        for part in _parts(ids):
            child = node.children.get(part)
            if child is None or child.block is None:
                break
            child.last_use = self._uses
            found.append(child.block)
            node = child
        return found

    def insert(self, ids: Sequence[int], get_block: Callable[[int], Block]) -> None:
        """Hold the whole blocks of a sequence, as far as memory allows.

        Args:
            ids: The sequence.
            get_block: Returns the block with this number; called for those that are not held.
        """
        self._uses += 1
        node = self._root
        for i, part in enumerate(_parts(ids)):
            child = node.children.get(part)
            if child is None:
                block = get_block(i)
                if not self._make_room(block.nbytes):
                    return
                child = node.children[part] = _Node(node, part, block)
                self.held_bytes += block.nbytes
            child.last_use = self._uses
            node = child

    def _make_room(self, size: int) -> bool:
        """Drop the least recently used ends, but none that the current call has used. False if that is not enough."""
        while self.held_bytes + size > self.limit_bytes:
            ends = (node for node in _nodes(self._root) if not node.children and node.last_use < self._uses)
            oldest = min(ends, key=lambda node: node.last_use, default=None)
            if oldest is None or oldest.parent is None or oldest.block is None:
                return False
            del oldest.parent.children[oldest.ids]
            self.held_bytes -= oldest.block.nbytes
        return True


def _parts(ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The whole blocks of ids."""
    each = iter(ids)
    while len(part := tuple(islice(each, BLOCK))) == BLOCK:
        yield part


def _nodes(root: _Node) -> Iterator[_Node]:
    """All nodes but the root."""
    left = list(root.children.values())
    while left:
        node = left.pop()
        yield node
        left.extend(node.children.values())
