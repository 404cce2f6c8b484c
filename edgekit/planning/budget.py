"""Compares a plan with its limits: the device's memory, and the speed its user asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..devices.profile import DeviceProfile
from ..errors import UsageError
from .efficiency import Interval

# How a prediction compares to a limit. ``met``: even the worse bound of the interval meets it; ``likely``: the expected
# value does; ``doubtful``: only the better bound does; ``missed``: no bound does; ``unknown``: there is no prediction.
MET, LIKELY, DOUBTFUL, MISSED, UNKNOWN = "met", "likely", "doubtful", "missed", "unknown"


@dataclass(frozen=True)
class UserLimits:
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
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"{key} is {value!r}; it must be a number above 0")


@dataclass(frozen=True)
class Limit:
    """One limit and the prediction it applies to.

    Attributes:
        name: ``ttft_s`` or ``decode_tok_s``.
        value: Most seconds, or least tokens per second.
        asked: Whether the user set it; otherwise it is the device's default, which never refuses a plan.
        predicted: The predicted seconds or tokens per second; None if unknown.
    """

    name: str
    value: float
    asked: bool
    predicted: Interval | None

    @property
    def times_too_slow(self) -> Interval | None:
        """How many times too slow the prediction is: below 1 if it is fast enough; None if unknown."""
        found, value = self.predicted, self.value
        if found is None:
            return None
        if self.name == "ttft_s":
            return Interval(found.low / value, found.mid / value, found.high / value)
        return Interval(value / found.high, value / found.mid, value / found.low)

    @property
    def short_by(self) -> float | None:
        """How many times too slow the expected speed is."""
        times = self.times_too_slow
        return None if times is None else times.mid

    @property
    def verdict(self) -> str:
        """``met``, ``likely``, ``doubtful``, ``missed`` or ``unknown``."""
        times = self.times_too_slow
        if times is None:
            return UNKNOWN
        return MET if times.high <= 1 else LIKELY if times.mid <= 1 else DOUBTFUL if times.low <= 1 else MISSED

    @property
    def slow(self) -> bool:
        """Whether it is not expected to be met. An unknown speed is not slow."""
        return self.verdict in (DOUBTFUL, MISSED)

    @property
    def refused(self) -> bool:
        """Whether this is the user's limit and it is not expected to be met."""
        return self.asked and self.slow

    def describe(self) -> str:
        """``3.1 tok/s at the end of the context expected (2.4 to 4.0), 10 requested: 3.2 times too slow``."""
        found = self.predicted
        if found is None or self.short_by is None:
            return f"{self.name} is unknown"
        unit = "s to the first token" if self.name == "ttft_s" else "tok/s at the end of the context"
        return (
            f"{found.mid:.3g} {unit} expected ({found.low:.3g} to {found.high:.3g}), {self.value:g} requested: "
            f"{show_times(self.short_by)} times too slow"
        )

    def to_json(self) -> dict[str, object]:
        """The limit as JSON shows it."""
        short = None if self.short_by is None else float(f"{self.short_by:.3g}")
        return {"value": self.value, "verdict": self.verdict, "asked": self.asked, "short_by": short}


def show_times(factor: float) -> str:
    """A factor with two significant digits, or as a whole number."""
    return f"{factor:.2g}" if factor < 100 else f"{factor:.0f}"


def find_limits(
    device: DeviceProfile, wanted: UserLimits, ttft_s: Interval | None, decode_tok_s: Interval | None
) -> tuple[Limit, ...]:
    """The user's limits, otherwise the device's.

    Args:
        device: Its ``budget`` applies where the user sets no limit.
        wanted: The user's limits.
        ttft_s: Predicted seconds to the first token.
        decode_tok_s: Predicted tokens per second at the end of the context, where decode is slowest.
    """
    found = []
    for name, predicted in (("ttft_s", ttft_s), ("decode_tok_s", decode_tok_s)):
        asked, default = getattr(wanted, name), getattr(device.budget, name)
        if asked is not None or default is not None:
            found.append(Limit(name, default.value if asked is None else asked, asked is not None, predicted))
    return tuple(found)


def usable_memory(device: DeviceProfile, wanted: UserLimits, headless: bool = False) -> tuple[int, str]:
    """Bytes a plan may take, and the source of that figure: the least of the device's memory and all memory budgets.

    Args:
        device: The device.
        wanted: The user's limits.
        headless: Whether the device boots without a desktop.

    Raises:
        UsageError: The profile does not say how much memory is usable without a desktop.
    """
    usable = device.memory.usable
    if headless:
        if device.memory.usable_headless is None:
            raise UsageError(
                f"planning without a desktop: {device.name} has no memory.usable_headless in its profile",
                hint="plan without --headless, or add the figure to a profile of your own",
            )
        usable = device.memory.usable_headless
    found = [(int(usable.value), f"{usable.source} ({usable.note})" if usable.note else usable.source)]
    if device.budget.memory is not None:
        found.append((device.budget.memory.value, f"the device's budget: {device.budget.memory.source}"))
    if wanted.memory_bytes is not None:
        found.append((wanted.memory_bytes, "the requested memory budget"))
    return min(found)
