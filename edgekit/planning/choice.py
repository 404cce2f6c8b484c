"""Chooses the model for a device: the largest that is acceptable. If none is, tells what is missing."""

from __future__ import annotations

from collections.abc import Iterable

from ..devices.profile import DeviceProfile
from ..errors import BudgetError, ContextLengthError, UsageError
from ..recipes.recipe import Recipe
from ..scheme import QuantizationConfig, QuantizationOverrides
from ..units import format_bytes
from .budget import Limit, UserLimits, show_times, usable_memory
from .draft import draft, longer_context
from .plan import Plan, PlanOptions


def as_requested(
    recipes: Iterable[Recipe],
    quantization: QuantizationConfig | QuantizationOverrides | None = None,
    reasoning: bool | None = None,
) -> tuple[Recipe, ...]:
    """The recipes with the options that a user requested for whichever model is chosen.

    Args:
        recipes: Recipes to choose from.
        quantization: A configuration that replaces theirs, or changes to it. Recipes that it does not apply to are
            left out.
        reasoning: Whether the model thinks before it answers; None for what the recipes say.

    Raises:
        UsageError: The changes apply to none of the recipes.
    """
    found, refused = [], None
    for recipe in recipes:
        try:
            found.append(recipe.with_reasoning(reasoning).with_quantization(quantization))
        except UsageError as error:
            refused = refused or error
    if refused is not None and not found:
        raise refused
    return tuple(found)


def plan_each(
    recipes: Iterable[Recipe], device: DeviceProfile, context: int | None = None, options: PlanOptions | None = None
) -> tuple[dict[str, Plan], dict[str, str]]:
    """Plan every recipe for one device.

    Args:
        recipes, device, context, options: As for :func:`best_recipe`.

    Returns:
        The plan of each recipe by its name, and why the others cannot be planned as requested.

    Raises:
        UsageError: No model that can be built reaches the requested mean of bits.
        EdgekitError: The device lacks something that was requested, as for :func:`~edgekit.planning.draft.draft`.
    """
    recipes, options = tuple(recipes), options or PlanOptions()
    usable_memory(device, options.limits, options.headless)  # what the device lacks is no fault of the recipes
    plans, refused = {}, {}
    unreachable: UsageError | None = None
    for recipe in recipes:
        if context is not None and context > recipe.max_context:
            refused[recipe.name] = f"at most {recipe.max_context} tokens"
            continue
        try:
            plans[recipe.name] = draft(recipe, device, context, options=options)
        except ContextLengthError:
            refused[recipe.name] = "the prompt does not fit"
        except UsageError as error:
            refused[recipe.name], unreachable = "cannot reach this mean of bits", error
    if unreachable is not None and all(recipe.plan_only for recipe in recipes if recipe.name in plans):
        raise unreachable
    return plans, refused


def best_recipe(
    recipes: Iterable[Recipe], device: DeviceProfile, context: int | None = None, options: PlanOptions | None = None
) -> Recipe:
    """The best model that can be built, fits the device and is expected to meet the user's limits.

    Models that also meet the device's own limits come first, then reasoning models, then larger ones.

    Args:
        recipes: Recipes to choose from; plan-only ones are skipped.
        device: Where the model runs.
        context: Tokens to hold; None for the device's default, at most each recipe's maximum.
        options: As for :func:`~edgekit.planning.planner.plan`.

    Raises:
        BudgetError: No model is acceptable; names the nearest and what is missing.
        ContextLengthError: No recipe allows ``context``, or a prompt as long as the one requested.
        UsageError: No model reaches the requested mean of bits.
    """
    buildable = [recipe for recipe in recipes if not recipe.plan_only]
    if not buildable:
        raise BudgetError("there is no recipe to choose from: every recipe is plan-only")
    longest = max(recipe.max_context for recipe in buildable)
    if context is not None and not 1 <= context <= longest:
        raise ContextLengthError(f"a context of {context} tokens was requested; the models allow 1 to {longest}")
    options = options or PlanOptions()
    found, _ = plan_each(buildable, device, context, options)
    if not found and options.prompt_tokens is not None:
        raise ContextLengthError(
            f"a prompt of {options.prompt_tokens} tokens was requested, which no model's planned context holds",
            hint=longer_context(options.prompt_tokens, longest),
        )
    plans = [(recipe, found[recipe.name]) for recipe in buildable if recipe.name in found]
    acceptable = [(recipe, planned) for recipe, planned in plans if planned.acceptable]
    if acceptable:
        return max(acceptable, key=lambda pair: (not pair[1].slow, pair[0].reasoning, pair[0].parameters))[0]
    worst = {planned.model: max(planned.refused, key=_times) for _, planned in plans if planned.fits}
    if worst:
        name, limit = min(worst.items(), key=lambda item: _times(item[1]))
        raise BudgetError(
            f"no model meets the budget on {device.name}; the nearest is {name}: {limit.describe()}",
            hint=f"relax the limit, or choose a device that is {show_times(_times(limit))} times as fast",
        )
    recipe, planned = min(plans, key=lambda pair: pair[1].memory.peak)
    raise BudgetError(
        f"no model fits {device.name}: the smallest, {recipe.name}, needs {format_bytes(planned.memory.peak)}, "
        f"and {format_bytes(planned.usable_bytes)} are usable",
        hint=_more_room(recipe, device, planned, options),
    )


def _more_room(recipe: Recipe, device: DeviceProfile, planned: Plan, options: PlanOptions) -> str:
    """What would make the smallest model fit: a shorter context, a higher limit or another device."""
    shortest = draft(recipe, device, options.prompt_tokens or 1, options=options)
    if shortest.fits:
        return "try a shorter --context"
    if fits_the_device(planned, device):
        return "raise the limit on memory, --max-memory"
    return "choose a device with more memory; edgekit devices lists them"


def fits_the_device(planned: Plan, device: DeviceProfile) -> bool:
    """Whether a plan fits the device's own memory, so that at most a limit of the user on memory is exceeded."""
    return planned.memory.peak <= usable_memory(device, UserLimits(), planned.headless)[0]


def check_budget(planned: Plan) -> None:
    """Refuse a plan that does not fit or is not expected to meet a limit set by the user.

    Raises:
        BudgetError: The plan is not acceptable; names both numbers and the plan's offers.
    """
    if planned.acceptable:
        return
    what = f"{planned.model} at a context of {planned.context} tokens on {planned.device}"
    if planned.fits:
        slow = "; ".join(limit.describe() for limit in planned.refused)
        message = f"{what} does not meet the budget: {slow}"
    else:
        need, usable = format_bytes(planned.memory.peak), format_bytes(planned.usable_bytes)
        message = f"{what} needs {need}; {usable} are usable"
    offers = "; ".join(offer.sentence for offer in planned.offers)
    anyway = "--anyway builds it regardless"
    raise BudgetError(message, hint=f"alternatives: {offers}; {anyway}" if offers else anyway)


def _times(limit: Limit) -> float:
    return limit.short_by or 0.0


def needed_machine(planned: Plan, devices: Iterable[DeviceProfile]) -> str:
    """The class of machine that has enough memory for a plan.

    Args:
        planned: The plan.
        devices: Devices that can be suggested.
    """
    need, devices = planned.memory.peak, tuple(devices)
    own = next((d for d in devices if d.name == planned.device and d.usable_bytes < need), None)
    least = own.memory.total.value if own else 0  # a device with as much memory is no better advice
    holding = [d for d in devices if d.kind != "host" and d.usable_bytes >= need and d.memory.total.value > least]
    if holding:
        smallest = min(holding, key=lambda d: (own is not None and d.kind != own.kind, d.usable_bytes))
        return f"a machine with {round(smallest.memory.total.value / 1e9)} GB of memory, such as {smallest.title}"
    # A fifth is left to the system and other programs; then the next size that memory is sold in.
    size = 8
    while size * 1e9 * 0.8 < need:
        size *= 2
    if need > 128e9:
        return (
            f"a server with {size} GB of main memory or {-(-need // 72_000_000_000)} accelerators of 80 GB; "
            "edgekit has no profile of such a device"
        )
    return f"a machine with {size} GB of memory; edgekit has no profile of such a device"
