"""A plan of a recipe: does the model fit on a device, how fast is it there, and if it is not acceptable, what is?

Recipes and profiles are given by name, by file or as objects. With objects alone, no file is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..arguments import check_kind, check_truth, one_or_several
from ..devices import DeviceProfile, load_device
from ..recipes import Recipe, load_recipe
from ..scheme import QuantizationConfig, QuantizationOverrides
from .choice import as_requested
from .draft import draft
from .offers import OfferSearch
from .plan import Plan, PlanOptions


def plan(
    model: str | Path | Recipe,
    device: str | Path | DeviceProfile,
    context: int | None = None,
    quantization: QuantizationConfig | QuantizationOverrides | None = None,
    candidates: Iterable[str | Path | Recipe] = (),
    *,
    devices: Iterable[str | Path | DeviceProfile] = (),
    options: PlanOptions | None = None,
    reasoning: bool | None = None,
) -> Plan:
    """Plan a model on a device: memory, speed, and alternatives when the plan is not acceptable.

    Args:
        model: A recipe, its name or its ``.toml`` file.
        device: A device profile, its name or alias, or its ``.toml`` file.
        context: Tokens to hold; None for the device's default, at most the recipe's maximum.
        quantization: A configuration that replaces the recipe's, or changes to it.
        candidates: Recipes to consider as a smaller model, with the same ``quantization`` and ``reasoning``.
        devices: Devices to consider as another device.
        options: Engine, KV cache, prompt, power mode and limits.
        reasoning: Whether the model thinks before it answers; None for what the recipe says.

    Raises:
        UnknownNameError: There is no such recipe, device, engine, KV cache type or power mode.
        RecipeError: The recipe file is invalid.
        DeviceProfileError: The device file is invalid, or this host's memory is unknown.
        ContextLengthError: ``context`` is below 1 or above the recipe's maximum.
        EngineError: No engine can run on the device.
        ValueError: A value has another type.
        UsageError: No choice of widths has the quantization's ``mean_bits``.
        UnsupportedModelError: There is no family for a model that is not marked plan-only.
    """
    check_truth("reasoning", reasoning, optional=True)
    check_kind("quantization", quantization, QuantizationConfig, QuantizationOverrides)
    recipe = load_recipe(model).with_reasoning(reasoning).with_quantization(quantization)
    profile, candidates = load_device(device), one_or_several("candidates", candidates)
    elsewhere = [load_device(each) for each in one_or_several("devices", devices)]
    check_kind("options", options, PlanOptions)
    smaller = as_requested(map(load_recipe, candidates), quantization, reasoning)
    planned = draft(recipe, profile, context, options=options)
    if planned.acceptable:
        return planned
    search = OfferSearch(planned, recipe, profile, options or PlanOptions())
    return replace(planned, offers=search.find(smaller, elsewhere))
