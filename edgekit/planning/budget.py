"""Compares a plan with its limits: the device's memory, and the speed its user asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..devices.profile import DeviceProfile
from .efficiency import Interval

# How a prediction compares to a limit. ``met``: even the worse bound of the interval meets it; ``likely``: the expected
# value does; ``doubtful``: only the better bound does; ``missed``: no bound does; ``unknown``: there is no prediction.
MET, LIKELY, DOUBTFUL, MISSED, UNKNOWN = "met", "likely", "doubtful", "missed", "unknown"


@dataclass(frozen=True)
class Wanted:
    """Limits set by the user; None where the user set none.

    Attributes:
        ttft_s: Most seconds to the first token.
        decode_tok_s: Least tokens per second at the end of the context.
        memory_bytes: Most memory.

    Raises:
        ValueError: A limit is not above 0.
    """

    ttft_s: float | None = None
    decode_tok_s: float | None = None
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        for key in ("ttft_s", "decode_tok_s", "memory_bytes"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{key} is {value}; it must be above 0")


@dataclass(frozen=True)
class Limit:
    """One limit and how the plan compares to it.

    Attributes:
        name: ``ttft_s`` or ``decode_tok_s``.
        value: Most seconds, or least tokens per second.
        verdict: ``met``, ``likely``, ``doubtful``, ``missed`` or ``unknown``.
        asked: Whether the user set it; otherwise it is the device's default, which never refuses a plan.
        short_by: How many times too slow the expected speed is: below 1 if it is fast enough; None if unknown.
    """

    name: str
    value: float
    verdict: str
    asked: bool
    short_by: float | None

    @property
    def refused(self) -> bool:
        """Whether this is the user's limit and it is not expected to be met. An unknown speed is not refused."""
        return self.asked and self.verdict in (DOUBTFUL, MISSED)

    def to_json(self) -> dict[str, object]:
        """The limit as JSON shows it."""
        short = None if self.short_by is None else float(f"{self.short_by:.3g}")
        return {"value": self.value, "verdict": self.verdict, "asked": self.asked, "short_by": short}


def find_limits(
    device: DeviceProfile, wanted: Wanted, ttft_s: Interval | None, decode_tok_s: Interval | None
) -> tuple[Limit, ...]:
    """The user's limits, otherwise the device's, each with its verdict.

    Args:
        device: Its ``budget`` applies where the user sets no limit.
        wanted: The user's limits.
        ttft_s: Predicted seconds to the first token.
        decode_tok_s: Predicted tokens per second at the end of the context, where decode is slowest.
    """
    found = []
    for name, predicted in (("ttft_s", ttft_s), ("decode_tok_s", decode_tok_s)):
        asked, default = getattr(wanted, name), getattr(device.budget, name)
        value = asked if asked is not None else default.value if default is not None else None
        if value is not None:
            found.append(_limit(name, value, predicted, asked is not None))
    return tuple(found)


def _limit(name: str, value: float, predicted: Interval | None, asked: bool) -> Limit:
    if predicted is None:
        return Limit(name, value, UNKNOWN, asked, None)
    if name == "ttft_s":
        worst, mid, best = (bound / value for bound in (predicted.high, predicted.mid, predicted.low))
    else:
        worst, mid, best = (value / bound for bound in (predicted.low, predicted.mid, predicted.high))
    verdict = MET if worst <= 1 else LIKELY if mid <= 1 else DOUBTFUL if best <= 1 else MISSED
    return Limit(name, value, verdict, asked, mid)


def usable_memory(device: DeviceProfile, wanted: Wanted) -> tuple[int, str]:
    """Bytes a plan may take, and the source of that figure: the least of the device's memory and all memory budgets."""
    usable = device.memory.usable
    found: list[tuple[int, str]] = [
        (usable.value, f"{usable.source} ({usable.note})" if usable.note else usable.source)
    ]
    if device.budget.memory is not None:
        found.append((device.budget.memory.value, f"the device's budget: {device.budget.memory.source}"))
    if wanted.memory_bytes is not None:
        found.append((wanted.memory_bytes, "the requested memory budget"))
    return min(found)
