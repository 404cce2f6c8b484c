"""A plan as data: what it is made for (:class:`PlanOptions`), its result (:class:`Plan`) and its alternatives."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..arguments import check_count, check_truth
from ..scheme import QuantizationConfig
from .budget import Limit, UserLimits
from .engine_choice import EnginePlan
from .engines import find_engine
from .latency import Latency, Predictor
from .memory import MemoryPlan

PROMPT_TOKENS = 128  # length of the prompt before the first token: a paragraph


@dataclass(frozen=True)
class PlanOptions:
    """The options of a plan.

    Attributes:
        engine: The engine's name; None for the one ``auto`` takes on the device.
        kv_type: Type of keys and values; None for the engine's default, or a smaller one where that does not fit.
        prompt_tokens: Tokens of the prompt before the first token, which the context must hold; None for 128, or the
            whole context if that is shorter.
        power_mode: The device's power mode; None for full power.
        headless: Whether the device boots without a desktop, which leaves more memory.
        limits: Limits set by the user.

    Raises:
        UnknownNameError: There is no such engine.
        ValueError: ``prompt_tokens`` is not a whole number of at least 1, or a value has another type.
    """

    engine: str | None = None
    kv_type: str | None = None
    prompt_tokens: int | None = None
    power_mode: str | None = None
    headless: bool = False
    limits: UserLimits = field(default_factory=UserLimits)

    def __post_init__(self) -> None:
        if self.engine is not None:
            find_engine(self.engine)
        if self.prompt_tokens is not None:
            check_count("prompt_tokens", self.prompt_tokens)
        check_truth("headless", self.headless)
        if not isinstance(self.limits, UserLimits):
            raise ValueError(f"limits is {self.limits!r}; it must be UserLimits")


@dataclass(frozen=True)
class Offer:
    """An alternative that is acceptable where the requested plan is not.

    Args:
        kind: ``engine``, ``context``, ``kv``, ``bits``, ``headless``, ``model`` or ``device``.
        sentence: A description for people.
        model: The name of the recipe.
        context: Tokens to hold.
        total_bytes: Memory it needs.
        options: What to add to the command line.
    """

    kind: str
    sentence: str
    model: str
    context: int
    total_bytes: int
    options: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON shows them."""
        return {**asdict(self), "options": list(self.options)}


@dataclass(frozen=True)
class Plan:
    """The memory a model needs on a device and how fast it will be there.

    Attributes:
        model, device: Names of the recipe and the device.
        context: Tokens to hold.
        activation_type: The graph's float type.
        engine, kv_type: The engine's name and the type of its keys and values.
        kv_because: Why ``kv_type`` is not the engine's default; empty where it is, or was requested.
        quantization: The formats that were planned.
        memory: Memory by part.
        latency: Predicted times and speeds.
        predictor: Predicts the speed at other contexts.
        limits: How the speed compares to each limit.
        usable_bytes, usable_source: Memory the plan may take, and the source of that figure.
        bits_per_weight: Mean size of a weight, with scales and zero points.
        power_mode: The device's power mode; None for full power.
        headless: Whether the device boots without a desktop.
        reasoning, reasoning_signs: Whether the model thinks before it answers, and why that is assumed.
        plan_only: Why the model cannot be built; empty when it can.
        offers: Alternatives; empty when the plan is acceptable.
        notes: What was decided when the checkpoint was read; empty when it has not been read.
        engines: The device's engines that support the request, in the order in which ``auto`` takes them; the planned
            one is among them.
        engine_because: Why the plan is for this engine.
        mode_note: What is not known of the power mode; empty if nothing is missing.
    """

    model: str
    device: str
    context: int
    activation_type: str
    engine: str
    kv_type: str
    quantization: QuantizationConfig
    memory: MemoryPlan
    latency: Latency
    predictor: Predictor
    limits: tuple[Limit, ...]
    usable_bytes: int
    usable_source: str
    bits_per_weight: float
    reasoning: bool
    reasoning_signs: tuple[str, ...] = ()
    power_mode: str | None = None
    headless: bool = False
    plan_only: str = ""
    offers: tuple[Offer, ...] = ()
    notes: tuple[str, ...] = ()
    engines: tuple[EnginePlan, ...] = ()
    engine_because: str = ""
    kv_because: str = ""
    mode_note: str = ""

    @property
    def fits(self) -> bool:
        """Whether there is enough memory, also while the model is loaded."""
        return self.memory.peak <= self.usable_bytes

    @property
    def acceptable(self) -> bool:
        """Whether it fits and is expected to meet every limit set by the user."""
        return self.fits and not self.refused

    @property
    def refused(self) -> tuple[Limit, ...]:
        """The user's limits that are not expected to be met."""
        return tuple(limit for limit in self.limits if limit.refused)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """A note if limits of the user could not be checked, because no speed is known."""
        figures = {"ttft_s": "the time to the first token", "decode_tok_s": "decode speed"}
        names = [figures[limit.name] for limit in self.limits if limit.asked and limit.predicted is None]
        if not names:
            return ()
        return (f"the limit for {' and the limit for '.join(names)} could not be checked: the speed is unknown",)

    @property
    def caveats(self) -> tuple[str, ...]:
        """Notes about what the plan does not know."""
        return ((self.mode_note,) if self.mode_note else ()) + self.unchecked

    @property
    def slow(self) -> bool:
        """Whether some limit, the user's or the device's, is not expected to be met."""
        return any(limit.slow for limit in self.limits)

    def to_json(self) -> dict[str, Any]:
        """The ``plan`` object of the command line."""
        latency = self.latency
        return {
            "model": self.model,
            "device": self.device,
            "context": self.context,
            "fits": self.fits,
            "memory_bytes": self.memory.to_json(),
            "load_peak_bytes": self.memory.load_peak,
            "file_bytes": self.memory.file_bytes,
            "usable_bytes": self.usable_bytes,
            "usable_source": self.usable_source,
            "bits_per_weight": self.bits_per_weight,
            "activation_type": self.activation_type,
            "engine": self.engine,
            "engine_because": self.engine_because,
            "engines": [each.to_json() for each in self.engines],
            "held_twice": [part.to_json() for part in self.memory.held_twice],
            "kv_type": self.kv_type,
            "kv_because": self.kv_because,
            "power_mode": self.power_mode,
            "headless": self.headless,
            "prompt_tokens": latency.prompt_tokens,
            **latency.intervals(),
            "load_s": {name: float(f"{seconds:.3g}") for name, seconds in latency.load_s},
            "calibrated": latency.calibrated,
            "uncalibrated_because": latency.uncalibrated_because,
            "budget": {limit.name: limit.to_json() for limit in self.limits},
            "reasoning": self.reasoning,
            "reasoning_signs": list(self.reasoning_signs),
            "plan_only": self.plan_only or None,
            "offers": [offer.to_json() for offer in self.offers],
            "notes": list(self.notes),
        }
