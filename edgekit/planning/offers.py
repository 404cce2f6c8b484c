"""What would do where a plan does not: a shorter context, a smaller KV cache, fewer bits, a smaller
model, another device.

Each offer was planned like the request and is acceptable: it fits, and it is expected to keep the user's limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..devices.profile import DeviceProfile
from ..errors import UsageError
from ..recipes.recipe import Recipe
from ..scheme import IMPORTED, QuantizationConfig, QuantizationScheme
from ..units import format_bytes

if TYPE_CHECKING:
    from .plan import Options, Plan

CONTEXT_STEP = 256  # offered contexts are whole prefill chunks
SMALLEST_BITS, SMALLEST_BLOCKS = 4, 128

Drafter = Callable[["Recipe", "DeviceProfile", int, "QuantizationConfig", "Options"], "Plan"]


@dataclass(frozen=True)
class Offer:
    """Something that does where the request did not.

    Args:
        kind: ``context``, ``kv``, ``bits``, ``model`` or ``device``.
        sentence: For a person.
        model: The recipe it is about.
        context: Tokens.
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
        """All fields, as JSON shows them."""
        return {
            "kind": self.kind,
            "sentence": self.sentence,
            "model": self.model,
            "context": self.context,
            "total_bytes": self.total_bytes,
            "options": list(self.options),
        }


def find_offers(
    asked: Plan,
    recipe: Recipe,
    device: DeviceProfile,
    candidates: Iterable[Recipe],
    devices: Iterable[DeviceProfile],
    options: Options,
    draft: Drafter,
) -> tuple[Offer, ...]:
    """The nearest things that do, from the least change to the largest."""
    search = _Search(asked, recipe, device, options, draft)
    found = (
        search.shorter(),
        search.smaller_cache(),
        search.fewer_bits(),
        search.smaller_model(candidates),
        search.other_device(devices),
    )
    return tuple(offer for offer in found if offer is not None)


@dataclass(frozen=True)
class _Search:
    asked: Plan
    recipe: Recipe
    device: DeviceProfile
    options: Options
    draft: Drafter

    def _plan(self, context: int, quantization: QuantizationConfig, options: Options | None = None) -> Plan:
        return self.draft(self.recipe, self.device, context, quantization, options or self.options)

    def _longest(self, quantization: QuantizationConfig, options: Options | None = None) -> Plan | None:
        """The acceptable plan with the longest context up to the one asked for, a multiple of ``CONTEXT_STEP``."""
        low, high = 0, self.asked.context // CONTEXT_STEP  # low does (nothing), what lies above high does not
        best = None
        while low < high:
            middle = (low + high + 1) // 2
            tried = self._plan(middle * CONTEXT_STEP, quantization, options)
            if tried.acceptable:
                low, best = middle, tried
            else:
                high = middle - 1
        return best

    def _offer(self, kind: str, sentence: str, found: Plan, options: tuple[str, ...]) -> Offer:
        return Offer(kind, sentence, found.model, found.context, found.memory.peak, options)

    def shorter(self) -> Offer | None:
        found = self._longest(self.asked.quantization)
        if found is None:
            return None
        sentence = (
            f"a context of {found.context} instead of {self.asked.context} tokens needs "
            f"{format_bytes(found.memory.peak)}"
        )
        return self._offer("context", sentence, found, ("--context", str(found.context)))

    def smaller_cache(self) -> Offer | None:
        if self.asked.engine != "native" or self.asked.kv_type == "int8":
            return None
        halved = replace(self.options, kv_type="int8")
        found = self._plan(self.asked.context, self.asked.quantization, halved)
        if not found.acceptable:
            return None
        sentence = f"a KV cache in int8 instead of {self.asked.kv_type} needs {format_bytes(found.memory.peak)}"
        return self._offer("kv", sentence, found, ("--kv-type", "int8"))

    def fewer_bits(self) -> Offer | None:
        asked = self.asked
        if asked.memory.weight_groups is None or asked.quantization.method == IMPORTED:
            return None  # planned from stated bits, or for the codes of a checkpoint: there is no other setting
        smallest, options = _smallest(asked.quantization)
        if not options:
            return None
        found = self._plan(asked.context, smallest)
        if not found.acceptable:
            shorter = self._longest(smallest)
            if shorter is None:
                return None
            found, options = shorter, (*options, "--context", str(shorter.context))
        shortened = (
            f" and a context of {found.context} instead of {asked.context} tokens" if "--context" in options else ""
        )
        sentence = (
            f"{found.bits_per_weight:.2f} instead of {asked.bits_per_weight:.2f} bits per weight{shortened} "
            f"need {format_bytes(found.memory.peak)}"
        )
        return self._offer("bits", sentence, found, options)

    def smaller_model(self, candidates: Iterable[Recipe]) -> Offer | None:
        fitting = []
        for other in candidates:
            if other.name == self.recipe.name or other.plan_only or other.parameters >= self.recipe.parameters:
                continue
            context = min(self.asked.context, other.max_context)
            try:
                planned = self.draft(other, self.device, context, other.quantization, self.options)
            except UsageError:  # it cannot have the mean of bits that was asked for
                continue
            if planned.acceptable:
                fitting.append((other, planned))
        if not fitting:
            return None
        other, found = max(fitting, key=lambda pair: (pair[0].reasoning, pair[0].parameters))
        shortened = f" with a context of {found.context}" if found.context != self.asked.context else ""
        sentence = f"{other.name}{shortened} needs {format_bytes(found.memory.peak)}"
        by_itself = found.context == min(self.device.default_context, other.max_context)
        options = (other.name,) if by_itself else (other.name, "--context", str(found.context))
        return self._offer("model", sentence, found, options)

    def other_device(self, devices: Iterable[DeviceProfile]) -> Offer | None:
        """The device with the least memory that does; first of the same kind, then one whose class has figures."""
        plain = replace(self.options, power_mode=None, engine=None, kv_type=None)
        fitting = []
        for other in devices:
            if other.name == self.device.name or other.kind == "host":
                continue
            found = self.draft(self.recipe, other, self.asked.context, self.asked.quantization, plain)
            if found.acceptable:
                rank = (other.kind != self.device.kind, not found.latency.calibrated, other.usable_bytes)
                fitting.append((rank, other.title, found))
        if not fitting:
            return None
        rank, title, found = min(fitting, key=lambda each: each[0])
        sentence = f"{title} has {format_bytes(rank[2])} to use; it needs {format_bytes(found.memory.peak)} there"
        return self._offer("device", sentence, found, ("--device", found.device))


def _smallest(quantization: QuantizationConfig) -> tuple[QuantizationConfig, tuple[str, ...]]:
    """Every part in 4 bits and blocks of 128, and the options of the command line that ask for that."""
    parts = {
        "--bits": quantization.linear,
        "--embedding-bits": quantization.embedding,
        "--lm-head-bits": quantization.lm_head,
    }
    options: list[str] = []
    for option, scheme in parts.items():
        if scheme is None or scheme.bits != SMALLEST_BITS or quantization.mean_bits is not None:
            options += [option, str(SMALLEST_BITS)]
    if any(scheme is None or scheme.block_size != SMALLEST_BLOCKS for scheme in parts.values()):
        options += ["--block-size", str(SMALLEST_BLOCKS)]
    linear, embedding, lm_head = (
        replace(scheme or QuantizationScheme(), bits=SMALLEST_BITS, block_size=SMALLEST_BLOCKS)
        for scheme in parts.values()
    )
    smallest = replace(quantization, linear=linear, embedding=embedding, lm_head=lm_head, mean_bits=None)
    return smallest, tuple(options)
