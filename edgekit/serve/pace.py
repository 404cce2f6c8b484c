"""How many tokens of a prompt are evaluated at once, so that those who read other answers are not held up.

Between two steps of decoding, the scheduler evaluates one piece of one prompt. While others read, a piece takes about
as long as a step; otherwise a fraction of a second, so that a request which arrives is seen soon.
"""

from __future__ import annotations

LEAST, MOST = 8, 512  # tokens; the native engine evaluates at most 512 at a time
_IDLE_S = 0.25
_STEADY = 0.3  # the weight of a new measurement in an average


class Pace:
    """Measures the scheduler's work and derives the length of the next piece."""

    def __init__(self) -> None:
        self._step_s: float | None = None
        self._token_s: float | None = None  # of a prompt

    def stepped(self, seconds: float) -> None:
        """Record how long a step of decoding took."""
        self._step_s = _mean(self._step_s, seconds)

    def read(self, tokens: int, seconds: float) -> None:
        """Record how long a piece of a prompt took."""
        if tokens >= LEAST:
            self._token_s = _mean(self._token_s, seconds / tokens)

    def piece(self, *, others_read: bool) -> int:
        """The number of tokens to evaluate at once.

        Args:
            others_read: Whether answers are being decoded.
        """
        if self._token_s is None:
            return 4 * LEAST if others_read else MOST // 4
        seconds = min(self._step_s or _IDLE_S, _IDLE_S) if others_read else _IDLE_S
        fits = int(seconds / self._token_s) // LEAST * LEAST if self._token_s > 0 else MOST
        return max(LEAST, min(MOST, fits))


def _mean(before: float | None, value: float) -> float:
    return value if before is None else before + _STEADY * (value - before)
