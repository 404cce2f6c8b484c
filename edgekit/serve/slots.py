"""KV caches for the jobs of one model. A cache outlives its job, so a later prompt need not be read again.

A prompt gets the free cache that holds the longest beginning of it. If that cache holds a different conversation, which
may go on, the beginning is copied to another one. With an engine that has a single sequence there is one slot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..runtime.engine import Engine
from ..runtime.native_engine import NativeEngine
from ..runtime.prefix_cache import common_prefix

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
    """

    def __init__(self, engine: Engine, most: int) -> None:
        self._engine = engine
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
        if best is not taken and shared[id(best)] >= have + _WORTH_COPYING:
            _copy(taken, best)
            have = shared[id(best)]
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


def _copy(target: Slot, source: Slot) -> None:
    if isinstance(target.engine, NativeEngine) and isinstance(source.engine, NativeEngine):
        target.engine.copy(source.engine)
        target.held = list(source.held)
