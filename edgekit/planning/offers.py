"""Alternatives to a plan that is not acceptable: another engine, a shorter context, a smaller KV cache, fewer bits, the
device without its desktop, another model or another device.

Each alternative is planned like the request. It is offered if it fits and is expected to meet the user's limits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..devices.profile import DeviceProfile
from ..errors import ContextLengthError, EngineError, UnknownNameError, UsageError
from ..recipes.recipe import Recipe
from ..scheme import IMPORTED, QuantizationConfig, QuantizationOverrides
from ..units import format_bytes
from .draft import draft
from .engines import find_engine
from .memory import KV_ITEM_BYTES
from .plan import Offer, Plan, PlanOptions

CONTEXT_STEP = 256  # offered contexts are whole prefill chunks
SMALLEST_BITS, SMALLEST_BLOCKS = 4, 128


@dataclass(frozen=True)
class OfferSearch:
    """Looks for alternatives to a plan that is not acceptable.

    Args:
        asked: The plan.
        recipe, device, options: What it was made for.
    """

    asked: Plan
    recipe: Recipe
    device: DeviceProfile
    options: PlanOptions

    def find(self, candidates: Iterable[Recipe], devices: Iterable[DeviceProfile]) -> tuple[Offer, ...]:
        """The alternatives, from the smallest change to the largest: at most one of each kind.

        Args:
            candidates: Recipes to consider as a smaller model.
            devices: Devices to consider as another device.
        """
        model, device = self._smaller_model(candidates), self._other_device(devices)
        found = (
            self._other_engine(), self._shorter(), self._smaller_cache(), self._fewer_bits(), self._without_desktop(),
            model, device,
        )  # fmt: skip
        return tuple(offer for offer in found if offer is not None)

    def _other_engine(self) -> Offer | None:
        """The engine that ``auto`` takes, if another one was requested."""
        if self.options.engine is None:
            return None
        options = replace(self.options, engine=None)
        try:
            found = draft(self.recipe, self.device, self.asked.context, self.asked.quantization, options)
        except (EngineError, UnknownNameError):  # no other engine has the requested type of KV cache
            return None
        if not found.acceptable or found.engine == self.asked.engine:
            return None
        return _offer("engine", f"the engine {found.engine} needs {_need(found)}", found, "--engine", found.engine)

    def _longest(self, quantization: QuantizationConfig) -> Plan | None:
        """The acceptable plan with the longest context up to the one requested, a multiple of ``CONTEXT_STEP``."""
        # In steps: low is acceptable or holds less than the prompt, anything above high is not acceptable.
        low, high = ((self.options.prompt_tokens or 1) - 1) // CONTEXT_STEP, self.asked.context // CONTEXT_STEP
        best = None
        while low < high:
            middle = (low + high + 1) // 2
            tried = draft(self.recipe, self.device, middle * CONTEXT_STEP, quantization, self.options)
            if tried.acceptable:
                low, best = middle, tried
            else:
                high = middle - 1
        return best

    def _shorter(self) -> Offer | None:
        """The longest context that is acceptable."""
        found = self._longest(self.asked.quantization)
        if found is None:
            return None
        what = f"a context of {found.context} instead of {self.asked.context} tokens"
        return _offer("context", f"{what} needs {_need(found)}", found, "--context", str(found.context))

    def _smaller_cache(self) -> Offer | None:
        """The engine's smallest type of keys and values."""
        asked = self.asked
        smallest = min(find_engine(asked.engine).kv_types(asked.activation_type), key=lambda kind: KV_ITEM_BYTES[kind])
        if KV_ITEM_BYTES[smallest] >= KV_ITEM_BYTES[asked.kv_type]:
            return None
        options = replace(self.options, kv_type=smallest)
        found = draft(self.recipe, self.device, asked.context, asked.quantization, options)
        if not found.acceptable:
            return None
        sentence = f"a KV cache in {smallest} instead of {asked.kv_type} needs {_need(found)}"
        return _offer("kv", sentence, found, "--kv-type", smallest)

    def _fewer_bits(self) -> Offer | None:
        """The smallest formats, with a shorter context if they alone are not enough."""
        asked = self.asked
        if asked.memory.weight_groups is None or asked.quantization.method == IMPORTED:
            return None  # the size is stated, or the codes are the checkpoint's: there is no other setting
        smallest, options = _smallest(asked.quantization)
        if not options:
            return None
        whole = draft(self.recipe, self.device, asked.context, smallest, self.options)
        found = whole if whole.acceptable else self._longest(smallest)
        if found is None:
            return None
        shortened = ""
        if found.context != asked.context:
            options = (*options, "--context", str(found.context))
            shortened = f" and a context of {found.context} instead of {asked.context} tokens"
        bits = f"{found.bits_per_weight:.2f} instead of {asked.bits_per_weight:.2f} bits per weight"
        return _offer("bits", f"{bits}{shortened} need {_need(found)}", found, *options)

    def _without_desktop(self) -> Offer | None:
        """The device when it boots without a desktop."""
        memory = self.device.memory
        if self.asked.headless or memory.usable_headless is None:
            return None
        options = replace(self.options, headless=True)
        found = draft(self.recipe, self.device, self.asked.context, self.asked.quantization, options)
        if not found.acceptable:
            return None
        more = format_bytes(memory.usable_headless.value - memory.usable.value)
        sentence = f"without a desktop, {more} more are usable on {self.device.name}; the model needs {_need(found)}"
        return _offer("headless", sentence, found, "--headless")

    def _smaller_model(self, candidates: Iterable[Recipe]) -> Offer | None:
        """The largest smaller model that is acceptable; a reasoning model is preferred."""
        fitting = []
        for other in candidates:
            if other.name == self.recipe.name or other.plan_only or other.parameters >= self.recipe.parameters:
                continue
            context = min(self.asked.context, other.max_context)
            try:
                planned = draft(other, self.device, context, other.quantization, self.options)
            except (UsageError, ContextLengthError):  # it cannot have the requested mean of bits, or hold the prompt
                continue
            if planned.acceptable:
                fitting.append((other, planned))
        if not fitting:
            return None
        other, found = max(fitting, key=lambda pair: (pair[0].reasoning, pair[0].parameters))
        shortened = f" with a context of {found.context}" if found.context != self.asked.context else ""
        is_default = found.context == self.asked.context == min(self.device.default_context, other.max_context)
        options = (other.name,) if is_default else (other.name, "--context", str(found.context))
        return _offer("model", f"{other.name}{shortened} needs {_need(found)}", found, *options)

    def _other_device(self, devices: Iterable[DeviceProfile]) -> Offer | None:
        """The acceptable device with the least memory; the same kind is preferred, then a more certain speed.

        The other options stay as they were requested, so devices that lack the engine or the power mode are left out.
        """
        fitting = []
        for other in devices:
            if other.name == self.device.name or other.kind == "host":
                continue
            try:
                found = draft(self.recipe, other, self.asked.context, self.asked.quantization, self.options)
            except (EngineError, UnknownNameError, UsageError):
                continue
            if found.acceptable:
                rank = (other.kind != self.device.kind, _doubt(found), found.usable_bytes)
                fitting.append((rank, other, found))
        if not fitting:
            return None
        rank, other, found = min(fitting, key=lambda each: each[0])
        sentence = f"{other.title} has {format_bytes(rank[2])} usable; the model needs {_need(found)} there"
        is_default = found.context == min(other.default_context, self.recipe.max_context)
        options = () if is_default else ("--context", str(found.context))
        return _offer("device", sentence, found, "--device", other.name, *options)


def _doubt(found: Plan) -> float:
    """0 for a calibrated speed, otherwise the width of its interval as a factor, roughly."""
    speed = found.latency.decode_tok_s
    if found.latency.calibrated:
        return 0.0
    return round(speed.high / speed.low, 1) if speed else math.inf


def _need(found: Plan) -> str:
    smaller = f" with a KV cache in {found.kv_type}" if found.kv_because else ""
    return format_bytes(found.memory.peak) + smaller


def _offer(kind: str, sentence: str, found: Plan, *options: str) -> Offer:
    return Offer(kind, sentence, found.model, found.context, found.memory.peak, options)


def _smallest(quantization: QuantizationConfig) -> tuple[QuantizationConfig, tuple[str, ...]]:
    """Every part in 4 bits and blocks of 128, and the options of the command line for that."""
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
    smallest = QuantizationOverrides.of_width(SMALLEST_BITS, SMALLEST_BLOCKS)
    return smallest.applied_to(quantization), tuple(options)
