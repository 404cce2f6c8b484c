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

    Arguments and errors are those of :func:`~edgekit.planning.api.plan`, with recipes and profiles instead of names.
    Widths that are still to be chosen are planned as for a typical model.
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
