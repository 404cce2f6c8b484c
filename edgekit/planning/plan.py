"""Does a model fit a device, and if not, what does: a recipe and a device profile in, a :class:`Plan` out.

Nothing is read or fetched here. The time a token takes is not predicted yet: its fields in the JSON are null.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..devices.profile import DeviceProfile
from ..errors import BudgetError, CheckpointError, ContextLengthError, RecipeError
from ..models import families, spec_from_config
from ..models.spec import ModelSpec
from ..recipes.recipe import Recipe
from ..scheme import IMPORTED, QuantizationConfig, QuantizationScheme
from ..units import format_bytes
from .memory import (
    RUNTIME_BYTES,
    STATED_BITS_PER_WEIGHT,
    Dimensions,
    MemoryPlan,
    activation_bytes,
    kv_cache_bytes,
    repacking_bytes,
    weight_bytes,
)

CONTEXT_STEP = 256  # offered contexts are whole prefill chunks
SMALLEST_BITS, SMALLEST_BLOCKS = 4, 128


@dataclass(frozen=True)
class Offer:
    """Something that fits where the request did not.

    Args:
        kind: ``context``, ``bits`` or ``model``.
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


@dataclass(frozen=True)
class Plan:
    """What a model needs on a device.

    ``usable_source`` says where ``usable_bytes`` is from; ``plan_only`` why the model cannot be built, or is empty;
    ``offers`` is empty when it fits.
    """

    model: str
    device: str
    context: int
    activation_type: str
    quantization: QuantizationConfig
    memory: MemoryPlan
    usable_bytes: int
    usable_source: str
    bits_per_weight: float
    plan_only: str = ""
    offers: tuple[Offer, ...] = ()

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.usable_bytes

    def to_json(self) -> dict[str, Any]:
        """The ``plan`` object of the command line."""
        return {
            "model": self.model,
            "device": self.device,
            "context": self.context,
            "fits": self.fits,
            "memory_bytes": self.memory.to_json(),
            "usable_bytes": self.usable_bytes,
            "usable_source": self.usable_source,
            "bits_per_weight": self.bits_per_weight,
            "activation_type": self.activation_type,
            "ttft_s": None,
            "decode_tok_s": None,
            "calibrated": False,
            "plan_only": self.plan_only or None,
            "offers": [offer.to_json() for offer in self.offers],
        }


def plan(
    recipe: Recipe,
    device: DeviceProfile,
    context: int | None = None,
    quantization: QuantizationConfig | None = None,
    candidates: Iterable[Recipe] = (),
) -> Plan:
    """Plan a model on a device.

    Args:
        recipe: The model.
        device: Where it is to run.
        context: Tokens to hold; by default the device's, at most the recipe's.
        quantization: Formats; by default the recipe's.
        candidates: Recipes to look among for a smaller model when this one does not fit.

    Raises:
        ContextLengthError: ``context`` is below 1 or above what the recipe allows.
        RecipeError: The recipe's ``[config]`` cannot be understood.
        UnsupportedModelError: No family for a model that is not marked plan-only.
    """
    if context is None:
        context = min(device.default_context, recipe.max_context)
    if not 1 <= context <= recipe.max_context:
        raise ContextLengthError(
            f"planning {recipe.name}: a context of {context} tokens was asked for; allowed: 1 to {recipe.max_context}"
        )
    asked = _plan(recipe, device, context, quantization or recipe.quantization)
    return asked if asked.fits else replace(asked, offers=_offers(asked, recipe, device, candidates))


def best_recipe(recipes: Iterable[Recipe], device: DeviceProfile, context: int | None = None) -> Recipe:
    """The largest model that can be built and fits the device, a reasoning model before any other.

    Args:
        recipes: What to choose from; plan-only ones are passed over.
        device: Where it is to run.
        context: Tokens to hold; by default the device's, at most each recipe's.

    Raises:
        BudgetError: None fits; names what the smallest needs and what the device has.
        ContextLengthError: None allows ``context``.
    """
    buildable = [recipe for recipe in recipes if not recipe.plan_only]
    if not buildable:
        raise BudgetError("there is no recipe to choose from: all are plan-only")
    longest = max(recipe.max_context for recipe in buildable)
    if context is not None and not 1 <= context <= longest:
        raise ContextLengthError(f"a context of {context} tokens was asked for; the models allow 1 to {longest}")
    plans = [(recipe, plan(recipe, device, context)) for recipe in buildable if (context or 1) <= recipe.max_context]
    fitting = [recipe for recipe, planned in plans if planned.fits]
    if fitting:
        return max(fitting, key=lambda recipe: (recipe.reasoning, recipe.parameters))
    recipe, planned = min(plans, key=lambda pair: pair[1].memory.total)
    raise BudgetError(
        f"no model fits {device.name}: the smallest, {recipe.name}, needs {format_bytes(planned.memory.total)} "
        f"and {format_bytes(device.usable_bytes)} are usable",
        hint="try a shorter --context",
    )


def _plan(recipe: Recipe, device: DeviceProfile, context: int, quantization: QuantizationConfig) -> Plan:
    """The plan without offers."""
    kind = device.activation_type
    spec = _spec(recipe)
    if spec is None:
        dimensions, groups = _stated_dimensions(recipe), None
        weights = round(recipe.parameters * STATED_BITS_PER_WEIGHT / 8)
        bits_per_weight, repacking = STATED_BITS_PER_WEIGHT, 0
    else:
        dimensions = Dimensions.of_spec(spec)
        groups = weight_bytes(spec, quantization, kind, recipe.max_context)
        weights, bits_per_weight = groups.total, groups.bits_per_weight
        repacking = repacking_bytes(spec, quantization, kind)
    usable = device.memory.usable
    accelerator = device.accelerator.runtime if device.accelerator else None
    return Plan(
        model=recipe.name,
        device=device.name,
        context=context,
        activation_type=kind,
        quantization=quantization,
        memory=MemoryPlan(
            weights=weights,
            repacking=repacking,
            kv_cache=kv_cache_bytes(dimensions, context, kind),
            activations=activation_bytes(dimensions, context, kind),
            runtime=RUNTIME_BYTES + (accelerator.value if accelerator else 0),
            weight_groups=groups,
        ),
        usable_bytes=device.usable_bytes,
        usable_source=f"{usable.source} ({usable.note})" if usable.note else usable.source,
        bits_per_weight=bits_per_weight,
        plan_only=recipe.plan_only,
    )


def _spec(recipe: Recipe) -> ModelSpec | None:
    """The model's tensors; None for a plan-only recipe of a family edgekit has no file for."""
    if recipe.plan_only and recipe.config["model_type"] not in families():
        return None
    try:
        return spec_from_config(recipe.config)
    except CheckpointError as error:
        # The same words serve a checkpoint's own file and the recipe's copy of it: say which of the two it was.
        message = f"recipe {recipe.name}: {error.message.replace('config.json', '[config]')}"
        raise (RecipeError if type(error) is CheckpointError else type(error))(message, error.hint) from None


def _stated_dimensions(recipe: Recipe) -> Dimensions:
    try:
        return Dimensions.of_latent_attention(recipe.config)
    except KeyError as missing:
        raise RecipeError(f"recipe {recipe.name}: [config] lacks {missing.args[0]}") from None


def _offers(asked: Plan, recipe: Recipe, device: DeviceProfile, candidates: Iterable[Recipe]) -> tuple[Offer, ...]:
    """The nearest things that fit: the same with a shorter context, with fewer bits, a smaller model."""
    found = (
        _shorter(asked, recipe, device),
        _fewer_bits(asked, recipe, device),
        _smaller_model(asked, recipe, device, candidates),
    )
    return tuple(offer for offer in found if offer is not None)


def _longest_context(
    recipe: Recipe, device: DeviceProfile, limit: int, quantization: QuantizationConfig
) -> Plan | None:
    """The plan with the longest context up to ``limit`` that fits, a multiple of ``CONTEXT_STEP``."""
    low, high = 0, limit // CONTEXT_STEP  # low fits (nothing), what lies above high does not: memory grows with context
    best = None
    while low < high:
        middle = (low + high + 1) // 2
        tried = _plan(recipe, device, middle * CONTEXT_STEP, quantization)
        if tried.fits:
            low, best = middle, tried
        else:
            high = middle - 1
    return best


def _shorter(asked: Plan, recipe: Recipe, device: DeviceProfile) -> Offer | None:
    found = _longest_context(recipe, device, asked.context, asked.quantization)
    if found is None:
        return None
    sentence = (
        f"a context of {found.context} instead of {asked.context} tokens needs {format_bytes(found.memory.total)}"
    )
    return Offer("context", sentence, recipe.name, found.context, found.memory.total, ("--context", str(found.context)))


def _fewer_bits(asked: Plan, recipe: Recipe, device: DeviceProfile) -> Offer | None:
    if asked.memory.weight_groups is None or asked.quantization.method == IMPORTED:
        return None  # planned from stated bits, or for the codes of a checkpoint: there is no other setting
    smallest, options = _smallest(asked.quantization)
    if not options:
        return None
    found = _plan(recipe, device, asked.context, smallest)
    if not found.fits:
        shorter = _longest_context(recipe, device, asked.context, smallest)
        if shorter is None:
            return None
        found, options = shorter, (*options, "--context", str(shorter.context))
    shortened = f" and a context of {found.context} instead of {asked.context} tokens" if "--context" in options else ""
    sentence = (
        f"{found.bits_per_weight:.2f} instead of {asked.bits_per_weight:.2f} bits per weight{shortened} "
        f"need {format_bytes(found.memory.total)}"
    )
    return Offer("bits", sentence, recipe.name, found.context, found.memory.total, options)


def _smallest(quantization: QuantizationConfig) -> tuple[QuantizationConfig, tuple[str, ...]]:
    """Every part in 4 bits and blocks of 128, and the options of the command line that ask for that."""
    parts = {
        "--bits": quantization.linear,
        "--embedding-bits": quantization.embedding,
        "--lm-head-bits": quantization.lm_head,
    }
    options: list[str] = []
    for option, scheme in parts.items():
        if scheme is None or scheme.bits != SMALLEST_BITS:
            options += [option, str(SMALLEST_BITS)]
    if any(scheme is None or scheme.block_size != SMALLEST_BLOCKS for scheme in parts.values()):
        options += ["--block-size", str(SMALLEST_BLOCKS)]
    linear, embedding, lm_head = (
        replace(scheme or QuantizationScheme(), bits=SMALLEST_BITS, block_size=SMALLEST_BLOCKS)
        for scheme in parts.values()
    )
    return replace(quantization, linear=linear, embedding=embedding, lm_head=lm_head), tuple(options)


def _smaller_model(asked: Plan, recipe: Recipe, device: DeviceProfile, candidates: Iterable[Recipe]) -> Offer | None:
    plans = [
        (other, _plan(other, device, min(asked.context, other.max_context), other.quantization))
        for other in candidates
        if other.name != recipe.name and not other.plan_only and other.parameters < recipe.parameters
    ]
    fitting = [(other, planned) for other, planned in plans if planned.fits]
    if not fitting:
        return None
    other, found = max(fitting, key=lambda pair: (pair[0].reasoning, pair[0].parameters))
    shortened = f" with a context of {found.context}" if found.context != asked.context else ""
    sentence = f"{other.name}{shortened} needs {format_bytes(found.memory.total)}"
    by_itself = found.context == min(device.default_context, other.max_context)
    options = (other.name,) if by_itself else (other.name, "--context", str(found.context))
    return Offer("model", sentence, other.name, found.context, found.memory.total, options)
