"""Prompts on an engine that holds their beginnings already, and the beginning of the prompt that comes next.

A reasoning model's thought is left out of the next prompt, so what follows the thought has to be evaluated again. That
can be done while somebody reads the answer: everything up to the next question is known by then. The native library
does the same for programs without Python (``native/text/prepare.cpp``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .engine import Engine

# Tokens that are prepared at once. Fewer would let engines take other kernels; see native/text/prepare.h.
PIECE = 128


class PrefixCache:
    """Keeps account of the ids whose keys and values an engine holds. Not safe for use from two threads at once.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: list[int] = []
        self._prepared: list[int] = []  # the beginning of the next prompt, evaluated or not

    def set(self, ids: Sequence[int]) -> None:
        """Say what the engine holds, after something else has changed it."""
        self._held = list(ids)

    def prompt(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Make these ids the engine's sequence, and evaluate those that it does not hold.

        If the prompt begins with what was to be prepared, ids are evaluated up to that place in the same pieces,
        whether or not there was time to prepare them. So an answer does not depend on how long somebody read. Any other
        prompt keeps what it has in common with what was prepared, which is faster, but its last digits depend on it.

        Returns:
            Logits of the last id, float32 (vocab_size,).
        """
        self._rewind(common_prefix(self._held, ids[:-1]))  # the last one is always evaluated, for its logits
        if len(self._prepared) < len(ids) and common_prefix(self._prepared, ids) == len(self._prepared):
            self._evaluate_pieces(self._prepared, lambda: True)
        return self.append(ids[len(self._held) :])

    def append(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Evaluate ids behind those that the engine holds.

        Returns:
            Logits of the last id, float32 (vocab_size,).
        """
        logits: NDArray[np.float32] = self._engine.evaluate(ids)[-1]
        self._held.extend(ids)
        return logits

    def prepare(self, start: Sequence[int], go_on: Callable[[], bool]) -> None:
        """Evaluate what the next prompt begins with. Does nothing if the engine holds it, or if it does not fit.

        Args:
            start: The ids that the next prompt begins with.
            go_on: Asked before each piece; False ends the preparation.
        """
        shared = common_prefix(self._held, start)
        if shared == len(self._held) or len(start) > self._engine.context:
            return
        self._prepared = list(start)
        if go_on():
            self._rewind(shared)
            self._evaluate_pieces(start, go_on)

    def _rewind(self, length: int) -> None:
        self._engine.rewind(length)
        del self._held[length:]

    def _evaluate_pieces(self, ids: Sequence[int], go_on: Callable[[], bool]) -> None:
        while (left := len(ids) - len(self._held)) > 0 and go_on():
            count = left if left < 2 * PIECE else PIECE
            self.append(ids[len(self._held) :][:count])


def next_start(encode: Callable[[str], Sequence[int]]) -> list[int]:
    """The ids that every next prompt of a conversation begins with.

    Args:
        encode: Returns the ids of the prompt that a question makes.
    """
    one, other = encode("A"), encode("1")  # two questions that do not begin alike
    return list(one[: common_prefix(one, other)])


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """The number of ids at the start that two sequences have in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
