"""The engines of a device side by side, and which of them ``auto`` is expected to take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .latency import Latency
from .memory import MemoryPlan

# Tokens of the answer for which engines are compared: a reasoning model's short answer, with its thought.
ANSWER_TOKENS = 512
# An engine whose speed is not calibrated is taken if it is expected to be this many times as fast as the others.
UNCALIBRATED_MARGIN = 1.25


@dataclass(frozen=True)
class EnginePlan:
    """A model with one of a device's engines.

    Attributes:
        engine: The engine's name.
        preference: See :class:`~edgekit.planning.planned_engine.PlannedEngine`.
        processor: The kind of processor that does the arithmetic.
        kv_type: Type of keys and values.
        kv_because: Why it is not the engine's default; empty where it is, or was requested.
        memory: Memory by part.
        usable_bytes: Memory the plan may take.
        latency: Predicted times and speeds.
        needs: What has to be installed in addition to edgekit; empty where nothing has.
    """

    engine: str
    preference: int
    processor: str
    kv_type: str
    memory: MemoryPlan
    usable_bytes: int
    latency: Latency
    needs: str = ""
    kv_because: str = ""

    @property
    def fits(self) -> bool:
        """Whether there is enough memory, also while the model is loaded."""
        return self.memory.peak <= self.usable_bytes

    @property
    def turn_s(self) -> float:
        """Expected seconds for a prompt and an answer of ``ANSWER_TOKENS``; infinite where the speed is unknown.

        Those of an engine that is not calibrated are longer by ``UNCALIBRATED_MARGIN``.
        """
        first, decode = self.latency.ttft_s, self.latency.decode_tok_s
        if first is None or decode is None:
            return math.inf
        margin = 1.0 if self.latency.calibrated else UNCALIBRATED_MARGIN
        return margin * (first.mid + ANSWER_TOKENS / decode.mid)

    def to_json(self) -> dict[str, Any]:
        """The engine as JSON shows it."""
        return {
            "engine": self.engine,
            "processor": self.processor,
            "fits": self.fits,
            "memory_bytes": self.memory.to_json(),
            "load_peak_bytes": self.memory.load_peak,
            "held_twice": [part.to_json() for part in self.memory.held_twice],
            "kv_type": self.kv_type,
            "kv_because": self.kv_because,
            **self.latency.intervals(),
            "calibrated": self.latency.calibrated,
            "uncalibrated_because": self.latency.uncalibrated_because,
            "needs": self.needs,
        }


def in_order(engines: Sequence[EnginePlan]) -> tuple[EnginePlan, ...]:
    """The engines in the order in which ``auto`` takes them.

    Those with the highest preference come first. Of these, the fastest that fits comes first, then the others that fit.
    Where none fits, the one that needs the least memory comes first. Equals keep their order.
    """
    chosen = max((each.preference for each in engines), default=0)

    def rank(each: EnginePlan) -> tuple[int, bool, float]:
        return chosen - each.preference, not each.fits, each.turn_s if each.fits else float(each.memory.peak)

    return tuple(sorted(engines, key=rank))


def reason(engines: Sequence[EnginePlan]) -> str:
    """Why the first of the engines in order is the one that ``auto`` is expected to take."""
    first, *others = engines
    if not others:
        return "no other engine runs there"
    rivals = [each for each in others if each.preference == first.preference]
    if not first.fits:
        return "no engine fits, and it needs the least memory" if rivals else "no engine fits"
    if not rivals:
        return "edgekit's own engine is preferred on processors" if first.processor == "cpu" else "it is preferred"
    if not any(each.fits for each in rivals):
        return f"no other {'preferred ' if any(each.fits for each in others) else ''}engine fits"
    if math.isinf(first.turn_s):
        return "no speed is known"
    among = ", of those that pip installs" if any(overtakes(each, first) for each in others) else ""
    return f"it is expected to be the fastest that fits{among}"


def overtakes(engine: EnginePlan, first: EnginePlan) -> bool:
    """Whether ``auto`` takes an engine before the first one in order where it is installed; pip cannot install it."""
    return engine.preference < first.preference and engine.fits and engine.needs != "" and engine.turn_s < first.turn_s
