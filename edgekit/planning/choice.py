"""Which model to take for a device: the largest that does; and when none does, by how much."""

from __future__ import annotations

from collections.abc import Iterable

from ..devices.profile import DeviceProfile
from ..errors import BudgetError, ContextLengthError
from ..recipes.recipe import Recipe
from ..units import format_bytes
from .budget import Limit
from .plan import Options, Plan, plan_without_offers


def best_recipe(
    recipes: Iterable[Recipe], device: DeviceProfile, context: int | None = None, options: Options | None = None
) -> Recipe:
    """The largest model that can be built, fits the device and keeps the user's limits, a reasoning model first.

    The device's own limits count among those that do: what keeps them comes before what does not.

    Args:
        recipes: What to choose from; plan-only ones are passed over.
        device: Where it is to run.
        context: Tokens to hold; by default the device's, at most each recipe's.
        options: As for :func:`~edgekit.planning.plan.plan`.

    Raises:
        BudgetError: None does; names what comes nearest and what is missing.
        ContextLengthError: None allows ``context``.
    """
    buildable = [recipe for recipe in recipes if not recipe.plan_only]
    if not buildable:
        raise BudgetError("there is no recipe to choose from: all are plan-only")
    longest = max(recipe.max_context for recipe in buildable)
    if context is not None and not 1 <= context <= longest:
        raise ContextLengthError(f"a context of {context} tokens was asked for; the models allow 1 to {longest}")
    plans = [
        (recipe, plan_without_offers(recipe, device, context, options=options))
        for recipe in buildable
        if (context or 1) <= recipe.max_context
    ]
    doing = [(recipe, planned) for recipe, planned in plans if planned.acceptable]
    if doing:
        return max(doing, key=lambda pair: (_in_time(pair[1]), pair[0].reasoning, pair[0].parameters))[0]
    fitting = [pair for pair in plans if pair[1].fits]
    if fitting:
        raise BudgetError(*too_slow([planned for _, planned in fitting]))
    recipe, planned = min(plans, key=lambda pair: pair[1].memory.peak)
    raise BudgetError(
        f"no model fits {device.name}: the smallest, {recipe.name}, needs {format_bytes(planned.memory.peak)} "
        f"and {format_bytes(planned.usable_bytes)} are usable",
        hint="try a shorter --context",
    )


def check_budget(planned: Plan) -> None:
    """Refuse a plan that does not fit or is not expected to keep a limit of the user.

    Raises:
        BudgetError: Names what is needed and what there is, and the plan's offers.
    """
    if planned.acceptable:
        return
    what = f"{planned.model} at a context of {planned.context} tokens on {planned.device}"
    if planned.fits:
        slow = "; ".join(describe(limit, planned) for limit in planned.limits if limit.refused)
        message = f"{what} does not keep the budget: {slow}"
    else:
        need, usable = format_bytes(planned.memory.peak), format_bytes(planned.usable_bytes)
        message = f"{what} needs {need}; {usable} are usable"
    offers = "; ".join(offer.sentence for offer in planned.offers)
    anyway = "--anyway builds it nevertheless"
    raise BudgetError(message, hint=f"what does: {offers}; {anyway}" if offers else anyway)


def _in_time(planned: Plan) -> bool:
    """Whether it is expected to keep the device's own limits too."""
    return all(limit.short_by is None or limit.short_by <= 1 for limit in planned.limits)


def too_slow(plans: list[Plan]) -> tuple[str, str]:
    """The message and the hint when not one of these plans keeps the user's limits: the nearest, and by how much."""
    nearest = min(plans, key=lambda planned: max(_short(limit) for limit in planned.limits if limit.refused))
    worst = max((limit for limit in nearest.limits if limit.refused), key=_short)
    return (
        f"no model keeps the budget on {nearest.device}; the nearest is {nearest.model}: {describe(worst, nearest)}",
        f"ask for less, or choose a device with more: {show_times(_short(worst))} times as fast",
    )


def describe(limit: Limit, planned: Plan) -> str:
    """``3.1 tok/s expected (2.4 to 4.0), 10 asked for: 3.2 times too slow``."""
    latency = planned.latency
    interval = latency.ttft_s if limit.name == "ttft_s" else latency.decode_full_tok_s
    if interval is None:
        return f"nothing known of {limit.name}"
    unit = "s to the first token" if limit.name == "ttft_s" else "tok/s at the end of the context"
    return (
        f"{interval.mid:.3g} {unit} expected ({interval.low:.3g} to {interval.high:.3g}), {limit.value:g} asked for: "
        f"{show_times(_short(limit))} times too slow"
    )


def show_times(factor: float) -> str:
    """Two digits, or all before the point."""
    return f"{factor:.2g}" if factor < 100 else f"{factor:.0f}"


def _short(limit: Limit) -> float:
    return limit.short_by or 0.0


def needed_machine(planned: Plan, devices: Iterable[DeviceProfile]) -> str:
    """The class of machine that holds a plan, by its memory alone.

    Args:
        planned: What is to be held.
        devices: Those with a profile.
    """
    need, devices = planned.memory.peak, tuple(devices)
    own = next((d for d in devices if d.name == planned.device and d.usable_bytes < need), None)
    least = own.memory.total.value if own else 0  # what another system leaves of as much is no advice
    holding = [d for d in devices if d.kind != "host" and d.usable_bytes >= need and d.memory.total.value > least]
    if holding:
        smallest = min(holding, key=lambda d: (own is not None and d.kind != own.kind, d.usable_bytes))
        return f"a machine of {round(smallest.memory.total.value / 1e9)} GB, such as {smallest.title}"
    # A fifth for the system and other programs, then the next of the sizes that memory is sold in.
    size = 8
    while size * 1e9 * 0.8 < need:
        size *= 2
    if need > 128e9:
        return (
            f"a server: {size} GB of memory for its processors, or {-(-need // 72_000_000_000)} accelerators of 80 GB; "
            "no device edgekit has a profile of holds it"
        )
    return f"a machine of {size} GB; no device edgekit has a profile of holds it"
