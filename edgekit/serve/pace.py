"""How many tokens of a prompt are evaluated at once, so that those who read other answers are not held up.

Between two steps of decoding, the scheduler evaluates one piece of one prompt. While others read, a piece takes less
time than a step, so the longest pause between two tokens is less than twice the usual one; otherwise it takes a
fraction of a second, so that a request which arrives is seen soon. The time of a piece is not proportional to its
length, because the weights are read for each, so every length has its own measurement.
"""

from __future__ import annotations

LEAST, MOST = 4, 512  # tokens; the native engine evaluates at most 512 at a time
_SIZES = tuple(LEAST << i for i in range(8))
_FIRST = 128  # when nothing is known and nobody waits
_IDLE_S = 0.25
_SHARE = 0.8  # of a step; the rest is for variation
_STEADY = 0.3  # the weight of a new measurement in an average


class Pace:
    """Measures the scheduler's work and derives the length of the next piece."""

    def __init__(self) -> None:
        self._step_s: float | None = None
        self._piece_s: dict[int, float] = {}  # by the number of tokens

    def stepped(self, seconds: float) -> None:
        """Record how long a step of decoding took, with all that belongs to it."""
        self._step_s = _mean(self._step_s, seconds)

    def read(self, tokens: int, seconds: float) -> None:
        """Record how long a piece of a prompt took."""
        if tokens not in _SIZES:
            return
        self._piece_s[tokens] = _mean(self._piece_s.get(tokens), seconds)
        for size in self._piece_s:  # a longer one takes at most proportionally longer; it may have been disturbed
            if size > tokens:
                self._piece_s[size] = min(self._piece_s[size], self._piece_s[tokens] * size / tokens)

    def piece(self, *, others_read: bool) -> int:
        """The number of tokens to evaluate at once.

        Args:
            others_read: Whether answers are being decoded.
        """
        if not others_read:
            return self._longest(_IDLE_S) or (LEAST if self._piece_s else _FIRST)
        return self._longest(min(_SHARE * self._step_s, _IDLE_S) if self._step_s else 0.0) or LEAST

    def _longest(self, limit_s: float) -> int | None:
        """The most tokens that take no longer than this, as far as is known."""
        best = known = None
        for size in _SIZES:
            if size in self._piece_s:
                known = size
            if known is not None and self._piece_s[known] * size / known <= limit_s:
                best = size
        return best


def _mean(before: float | None, value: float) -> float:
    return value if before is None else before + _STEADY * (value - before)
