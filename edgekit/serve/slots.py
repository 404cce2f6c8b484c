"""KV caches for the jobs of one model. A cache outlives its job, so a later prompt need not be read again.

A prompt gets the free cache that holds the longest beginning of it. If that cache holds a different conversation, which
may go on, the beginning is copied to another one. What a cache held before goes to a tree of blocks
(:mod:`~edgekit.serve.prefix_tree`), from where it can come back. With an engine that has a single sequence there is one
slot and no tree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..native import BLOCK
from ..runtime.engine import Engine
from ..runtime.native_engine import NativeEngine
from ..runtime.prefix_cache import common_prefix
from .prefix_tree import PrefixTree

_WORTH_COPYING = 16  # tokens; fewer are evaluated in about the time of a copy


class Slot:
    """An engine, and account of what its cache holds.

    Args:
        engine: The engine, which is empty.

    Attributes:
        held: The ids that the cache holds.
        busy: Whether a job uses the slot.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.held: list[int] = []
        self.busy = False
        self.last_use = 0

    @property
    def room(self) -> int:
        """How many more ids the cache can hold."""
        return self.engine.context - len(self.held)

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Append ids.

        Returns:
            Logits of the last id, float32 (vocab_size,).
        """
        logits: NDArray[np.float32] = self.engine.evaluate(ids)[-1]
        self.held.extend(ids)
        return logits

    def rewind(self, length: int) -> None:
        """Forget every id from ``length`` on."""
        self.engine.rewind(length)
        del self.held[length:]


class Slots:
    """The slots of one model. Used by one thread.

    Args:
        engine: The engine of the first slot, which is empty. Its owner closes it, after :meth:`close`.
        most: The largest number of slots. They are made when they are needed.
        tree_bytes: The most memory for the beginnings of sequences that no slot holds.
    """

    def __init__(self, engine: Engine, most: int, tree_bytes: int = 0) -> None:
        self._engine = engine
        self._tree = PrefixTree(tree_bytes if isinstance(engine, NativeEngine) else 0)
        self._slots = [Slot(engine)]
        self._most = most if isinstance(engine, NativeEngine) else 1
        self._uses = 0

    @property
    def most(self) -> int:
        """The largest number of slots: as asked for, or fewer if the engine or the memory does not allow more."""
        return self._most

    def take(self, prompt: Sequence[int]) -> Slot | None:
        """A free slot that holds a beginning of the prompt, if any slot does; None if all are busy.

        Args:
            prompt: At least one id. The last one is never held, so that it is evaluated for its logits.
        """
        shared = {id(slot): common_prefix(slot.held, prompt[:-1]) for slot in self._slots}

        def fits(slot: Slot) -> tuple[int, int]:
            return shared[id(slot)], -len(slot.held)

        best = max(self._slots, key=fits)
        free = [slot for slot in self._slots if not slot.busy]
        taken = max(free, key=fits, default=None)
        if taken is None or 2 * shared[id(taken)] < len(taken.held):  # it holds another conversation
            taken = self._empty(free)
        if taken is None:
            return None
        have = shared.get(id(taken), 0)
        blocks = self._tree.match(prompt[:-1])
        copied = best is not taken and shared[id(best)] >= max(len(blocks) * BLOCK, have + _WORTH_COPYING)
        filled = not copied and len(blocks) * BLOCK >= have + _WORTH_COPYING
        self._keep(taken, have)
        if copied:
            _copy(taken, best)
            have = shared[id(best)]
        elif filled:
            have = _fill(taken, prompt, blocks)
        taken.rewind(have)
        self._uses += 1
        taken.busy, taken.last_use = True, self._uses
        return taken

    def close(self) -> None:
        """Free every slot but the first engine's."""
        for slot in self._slots:
            if slot.engine is not self._engine:
                slot.engine.close()
        del self._slots[1:]

    def _keep(self, slot: Slot, length: int) -> None:
        """Copy a sequence to the tree before all of it but ``length`` ids is forgotten."""
        engine = slot.engine
        if self._tree.limit_bytes and isinstance(engine, NativeEngine) and len(slot.held) >= length + _WORTH_COPYING:
            self._tree.insert(slot.held, engine.get_block)

    def _empty(self, free: Sequence[Slot]) -> Slot | None:
        """A new slot, or the free one that was not used for the longest time; None if there is neither."""
        unused = next((slot for slot in free if not slot.held), None)
        if unused is not None:
            return unused
        if len(self._slots) < self._most and isinstance(self._engine, NativeEngine):
            try:
                made = Slot(self._engine.fork(self._engine.threads))
            except EngineError:
                self._most = len(self._slots)  # there is no memory for more
            else:
                self._slots.append(made)
                return made
        return min(free, key=lambda slot: slot.last_use, default=None)


def _fill(slot: Slot, prompt: Sequence[int], blocks: Sequence[NDArray[np.uint8]]) -> int:
    """Make the beginning of a prompt, of which these are the blocks, the sequence of a slot; returns its length."""
    engine = slot.engine
    if not isinstance(engine, NativeEngine):
        return 0
    slot.rewind(common_prefix(slot.held, prompt) // BLOCK * BLOCK)
    for i in range(len(slot.held) // BLOCK, len(blocks)):
        ids = prompt[i * BLOCK : (i + 1) * BLOCK]
        engine.append_block(ids, blocks[i])
        slot.held.extend(ids)
    return len(blocks) * BLOCK


def _copy(target: Slot, source: Slot) -> None:
    if isinstance(target.engine, NativeEngine) and isinstance(source.engine, NativeEngine):
        target.engine.copy(source.engine)
        target.held = list(source.held)
