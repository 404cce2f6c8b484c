"""What a plan is held against: the memory a device has, and what its user is willing to wait for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..devices.profile import DeviceProfile
from .efficiency import Interval

# How a prediction stands to a limit: even its worse bound keeps it; what is expected does; only its better bound does;
# not even that. ``unknown``: there is a limit, but no prediction.
MET, LIKELY, DOUBTFUL, MISSED, UNKNOWN = "met", "likely", "doubtful", "missed", "unknown"


@dataclass(frozen=True)
class Wanted:
    """Limits the user named; None where none was named.

    Raises:
        ValueError: A limit that is not above 0.
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
    """One limit and how the plan stands to it.

    Attributes:
        name: ``ttft_s`` or ``decode_tok_s``.
        value: Seconds at most, or tokens per second at least.
        verdict: One of the words above.
        asked: Whether the user named it; else it is the device's default, which refuses nothing.
        short_by: How many times too slow what is expected is; below 1 where it is fast enough; None: not known.
    """

    name: str
    value: float
    verdict: str
    asked: bool
    short_by: float | None

    @property
    def refused(self) -> bool:
        """Whether the user's own limit is not expected to be kept; a limit nothing is known about is not refused."""
        return self.asked and self.verdict in (DOUBTFUL, MISSED)

    def to_json(self) -> dict[str, object]:
        """As JSON shows it."""
        short = None if self.short_by is None else float(f"{self.short_by:.3g}")
        return {"value": self.value, "verdict": self.verdict, "asked": self.asked, "short_by": short}


def find_limits(
    device: DeviceProfile, wanted: Wanted, ttft_s: Interval | None, decode_tok_s: Interval | None
) -> tuple[Limit, ...]:
    """The user's limits, else the device's, each with its verdict.

    Args:
        device: Its ``budget`` holds where the user names nothing.
        wanted: What the user named.
        ttft_s: Predicted seconds to the first token.
        decode_tok_s: Predicted tokens per second at the end of the context, the slowest there is.
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
    """Bytes a plan may take, and where that figure is from: the least of what is usable, budgeted and asked for."""
    usable = device.memory.usable
    found: list[tuple[int, str]] = [
        (usable.value, f"{usable.source} ({usable.note})" if usable.note else usable.source)
    ]
    if device.budget.memory is not None:
        found.append((device.budget.memory.value, f"the device's budget: {device.budget.memory.source}"))
    if wanted.memory_bytes is not None:
        found.append((wanted.memory_bytes, "the memory budget asked for"))
    return min(found)
