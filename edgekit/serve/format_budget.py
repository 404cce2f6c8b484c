"""Limits the memory for the formats that answers are held to: about 400 bytes for each character of their grammars."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from .request_error import RequestError

_MOST_CHARACTERS = 1 << 19  # of all requests that wait or are answered; four of the longest grammars
_RETRY_S = 5


class FormatBudget:
    """What the grammars of a model's requests may take together.

    Args:
        most: Characters.
    """

    def __init__(self, most: int = _MOST_CHARACTERS) -> None:
        self._most, self._held = most, 0
        self._lock = threading.RLock()  # the garbage collector may free a grammar inside of take()

    @property
    def held(self) -> int:
        """The characters of the grammars that are in use."""
        return self._held

    @contextmanager
    def taken(self, size: int) -> Iterator[Taken]:
        """Take characters until the end of the block, or longer: see :meth:`Taken.until_freed`.

        Raises:
            RequestError: Other requests have taken too many. One alone is never refused.
        """
        with self._lock:
            if self._held and self._held + size > self._most:
                raise RequestError(
                    "the formats of other requests take all the memory that this server has for formats; "
                    f"try again in about {_RETRY_S} s",
                    status=503,
                    code="insufficient_memory",
                    headers={"retry-after": str(_RETRY_S)},
                )
            self._held += size
        taken = Taken(self, size)
        try:
            yield taken
        finally:
            if not taken.is_held:
                self.give(size)

    def give(self, size: int) -> None:
        """Give characters back."""
        with self._lock:
            self._held -= size


class Taken:
    """Characters that a request has taken."""

    def __init__(self, budget: FormatBudget, size: int) -> None:
        self._budget, self._size = budget, size
        self.is_held = False

    def until_freed(self, holder: object) -> None:
        """Keep the characters until an object is freed."""
        self.is_held = True
        weakref.finalize(holder, self._budget.give, self._size)
