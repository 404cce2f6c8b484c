"""Ends an answer at a text, which several tokens may spell and which is not part of the answer.

The text of tokens arrives in pieces, so what may be the beginning of a stop text is held back until more is known.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """Looks for stop texts in streamed text.

    Args:
        texts: The texts; empty ones are ignored.

    Attributes:
        found: Whether one has occurred.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(text for text in texts if text)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Add text and return what comes before a stop text, as far as that is known; nothing after one was found."""
        if self.found or not self._texts:
            return "" if self.found else text
        held = self._held + text
        places = [place for stop in self._texts if (place := held.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return held[: min(places)]
        end = len(held) - max(_overlap(held, stop) for stop in self._texts)
        self._held = held[end:]
        return held[:end]

    def flush(self) -> str:
        """End the answer and return the text that was held back."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest suffix of ``text`` that is a proper prefix of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
