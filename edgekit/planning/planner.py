"""Plans a model on a device: does it fit, how fast is it, and if it is not acceptable, what is. Reads no files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..devices.profile import DeviceProfile
from ..errors import ContextLengthError
from ..recipes.recipe import Recipe
from ..scheme import QuantizationConfig
from .draft import draft
from .offers import find_offers
from .plan import Plan, PlanOptions


def plan_recipe(
    recipe: Recipe,
    device: DeviceProfile,
    context: int | None = None,
    quantization: QuantizationConfig | None = None,
    candidates: Iterable[Recipe] = (),
    *,
    devices: Iterable[DeviceProfile] = (),
    options: PlanOptions | None = None,
) -> Plan:
    """Plan a model on a device, with alternatives when the plan is not acceptable.

    Args:
        recipe: The model.
        device: Where it runs.
        context: Tokens to hold; None for the device's default, at most the recipe's maximum.
        quantization: Formats; None for the recipe's. Widths that are still to be chosen are planned as for a typical
            model.
        candidates: Recipes to consider as a smaller model.
        devices: Devices to consider as another device.
        options: Engine, KV cache, prompt, power mode and limits.

    Raises:
        ContextLengthError: ``context`` is below 1 or above the recipe's maximum.
        EngineError: No engine can run on the device.
        RecipeError: The recipe's ``[config]`` is invalid.
        UsageError: No choice of widths has the quantization's ``mean_bits``.
        UnknownNameError: The engine does not have this type of KV cache, or the device has no such power mode.
        UnsupportedModelError: There is no family for a model that is not marked plan-only.
    """
    options = options or PlanOptions()
    planned = plan_without_offers(recipe, device, context, quantization, options)
    if planned.acceptable:
        return planned
    return replace(planned, offers=find_offers(planned, recipe, device, candidates, devices, options))


def plan_without_offers(
    recipe: Recipe,
    device: DeviceProfile,
    context: int | None = None,
    quantization: QuantizationConfig | None = None,
    options: PlanOptions | None = None,
) -> Plan:
    """Like :func:`plan_recipe`, without looking for alternatives: for tables of many plans."""
    if context is None:
        context = min(device.default_context, recipe.max_context)
    if not 1 <= context <= recipe.max_context:
        raise ContextLengthError(
            f"planning {recipe.name}: a context of {context} tokens was requested; allowed: 1 to {recipe.max_context}"
        )
    return draft(recipe, device, context, quantization or recipe.quantization, options or PlanOptions())
