"""How many tokens of a prompt are evaluated at once, so that those who read other answers are not held up.

While others read, pieces of prompts are computed in the same step as their next tokens. They have as many tokens as
keep the step below twice the time that it takes without them, or will take when those prompts have been read. While
nobody reads, a piece takes a fraction of a second, so that a request which arrives is seen soon. Times are not
proportional to the numbers of tokens, because the weights are read once for all of them, so every number has its own
measurement.
"""

from __future__ import annotations

_SIZES = tuple(4 << i for i in range(8))  # of pieces; the native engine evaluates at most 512 tokens at a time
_FIRST = 128  # when nothing is known
_IDLE_S = 0.25
_SHARE = 1.3  # of the time of a step without a piece; the rest is for variation
_TRIED = 1.7  # the same for a number of tokens that has not been measured, which may take as long as this
_STEADY = 0.3  # the weight of a new measurement in an average


class Pace:
    """Measures the scheduler's work and derives the lengths of the next pieces."""

    def __init__(self) -> None:
        self._step_s: dict[int, float] = {}  # by the number of tokens
        self._piece_s: dict[int, float] = {}

    def stepped(self, tokens: int, seconds: float) -> None:
        """Record how long a step with so many tokens took, with all that belongs to it."""
        _record(self._step_s, tokens, seconds)

    def read(self, tokens: int, seconds: float) -> None:
        """Record how long a piece of a prompt took that was evaluated alone."""
        if tokens in _SIZES:
            _record(self._piece_s, tokens, seconds)

    def piece(self) -> int:
        """The number of tokens to evaluate at once while nobody reads."""
        if not self._piece_s:
            return _FIRST
        return max((size for size in _SIZES if _at_most(self._piece_s, size) <= _IDLE_S), default=_SIZES[0])

    def beside(self, readers: int, prompts: int, most: int) -> int:
        """The number of tokens of prompts to evaluate in the same step as the next tokens of others, 1 to ``most``.

        Args:
            readers: How many others there are.
            prompts: How many prompts there are. Those who asked them will be readers soon, so what a step takes then
                is nothing that the present readers are spared.
            most: The most tokens that fit into the step.
        """
        known = [count for count in self._step_s if count <= readers + prompts]
        if not known:
            return 1
        alone_s = self._step_s[max(known)]  # at least as long as with fewer readers
        size = 1
        while size < most:
            tokens = readers + size + 1
            if _at_most(self._step_s, tokens) > alone_s * (_SHARE if tokens in self._step_s else _TRIED):
                break
            size += 1
        return size


def _record(times: dict[int, float], tokens: int, seconds: float) -> None:
    before = times.get(tokens)
    times[tokens] = seconds if before is None else before + _STEADY * (seconds - before)
    for more in times:  # they take at most proportionally longer; their measurement may have been disturbed
        if more > tokens:
            times[more] = min(times[more], times[tokens] * more / tokens)


def _at_most(times: dict[int, float], tokens: int) -> float:
    """The time of so many tokens, as measured, or proportional to fewer ones."""
    known = max((count for count in times if count <= tokens), default=None)
    return float("inf") if known is None else times[known] * tokens / known
