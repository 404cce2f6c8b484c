"""What the next prompts of conversations begin with, to be computed while the server has nothing else to do.

A reasoning model's thought is left out of the next prompt, so the answer behind it would have to be read again. That is
done while somebody reads the answer, in the cache of the answer; ``runtime/background.py`` does the same for a session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ..errors import EdgekitError
from ..runtime.prefix_cache import common_prefix
from .slots import Slot

MakeStart = Callable[[], list[int]]


class _Preparation:
    def __init__(self, slot: Slot, make_start: MakeStart) -> None:
        self.slot, self.make_start = slot, make_start
        self.use = slot.last_use
        self.start: list[int] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether the cache still belongs to the conversation."""
        return not self.slot.busy and self.slot.last_use == self.use


class Preparations:
    """The conversations whose next prompts are not prepared yet. Used by one thread."""

    def __init__(self) -> None:
        self._left: deque[_Preparation] = deque()

    def __bool__(self) -> bool:
        return bool(self._left)

    def add(self, slot: Slot, make_start: MakeStart) -> None:
        """Prepare the next prompt of the conversation whose answer has just ended.

        Args:
            slot: Its cache, which is free.
            make_start: Returns the ids that the next prompt begins with. Called when there is time.
        """
        self._left = deque(each for each in self._left if each.is_wanted and each.slot is not slot)
        self._left.append(_Preparation(slot, make_start))

    def next(self) -> tuple[Slot, list[int]] | None:
        """The slot where ids are to be evaluated next, and these ids, at least one; None if there is nothing left."""
        while self._left:
            current = self._left[0]
            if current.is_wanted and (ids := _ids(current)):
                return current.slot, ids
            self._left.popleft()
        return None

    def give_up(self) -> None:
        """Leave out the current one, after an error."""
        if self._left:
            self._left.popleft()


def _ids(current: _Preparation) -> list[int]:
    slot = current.slot
    if current.start is None:
        current.start = []
        with suppress(EdgekitError, ValueError):  # the next request reports what is wrong
            current.start = current.make_start()
        shared = common_prefix(slot.held, current.start)
        if shared == len(slot.held) or len(current.start) > slot.engine.context:  # it goes on, or does not fit
            current.start = []
        elif current.start:
            slot.rewind(shared)
    return current.start[len(slot.held) :]
