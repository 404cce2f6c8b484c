"""``edgekit plan``: what a model needs on a device and how fast it will be, before anything is fetched."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..devices import DeviceProfile, all_devices, load_device
from ..errors import BudgetError, UsageError
from ..planning.choice import best_recipe, describe, needed_machine
from ..planning.plan import Plan, PlanOptions
from ..planning.planner import plan_recipe, plan_without_offers
from ..recipes import Recipe, all_recipes, load_recipe
from ..scheme import QuantizationOverrides
from ..units import format_bytes
from ._output import emit_json, json_option, print_table, say, show
from ._plan_options import plan_options
from ._plan_table import UNMEASURED, print_plan, show_seconds, show_speed
from ._quantization_options import quantization_arguments, quantization_options
from ._table import Column


@click.command()
@click.argument("model", required=False)
@click.option("--device", help="Name, alias or .toml file of the device; see edgekit devices.")
@click.option("--all-devices", "every_device", is_flag=True, help="Plan MODEL on every device.")
@click.option("--context", type=click.IntRange(min=1), help="Tokens to hold: prompt and answer together.")
@plan_options
@quantization_options
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw decode speed and memory over the context into a .svg or .png file.",
)
@json_option
def command(
    model: str | None,
    device: str | None,
    every_device: bool,
    context: int | None,
    options: PlanOptions,
    quantization: QuantizationOverrides,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Say what MODEL needs on a device, whether it fits and how fast it will be; without MODEL, try every recipe.

    Memory and speed are predicted from the recipe and the device profile alone: nothing is fetched. A speed is what is
    expected, with the interval that holds eight cases of ten. What does not do comes with what does.

    \b
      edgekit plan --device jetson
      edgekit plan deepseek-r1-distill-qwen-7b --device jetson --context 8192
      edgekit plan deepseek-r1-distill-qwen-1.5b --all-devices
      edgekit plan --device pi --min-decode 8 --max-ttft 2s --plot pi.svg
    """
    if every_device == (device is not None):
        raise click.UsageError("a plan is for one device or for all: give --device NAME, or --all-devices and a MODEL")
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise click.BadParameter(f"{plot} ends in neither .svg nor .png", param_hint="--plot")
    if device is None:
        _plan_everywhere(model, context, options, quantization, plot, as_json)
        return
    profile = load_device(device)
    recipes = [_with(recipe, quantization) for recipe in all_recipes()]
    if model is None:
        chosen = _plan_all(recipes, profile, device, context, options, quantization, as_json)
    else:
        chosen = [_with(load_recipe(model), quantization)]
        _plan_one(chosen[0], recipes, profile, context, options, as_json)
    if plot is not None:
        from ._plan_picture import write_picture

        write_picture(plot, [(recipe, profile) for recipe in chosen], options)
        say(f"\n{plot}: decode speed and memory over the context", err=True)


def _with(recipe: Recipe, quantization: QuantizationOverrides) -> Recipe:
    return replace(recipe, quantization=quantization.applied_to(recipe.quantization))


def _plan_one(
    recipe: Recipe,
    recipes: list[Recipe],
    profile: DeviceProfile,
    context: int | None,
    options: PlanOptions,
    as_json: bool,
) -> None:
    planned = plan_without_offers(recipe, profile, context, options=options)
    machine = None
    if not planned.acceptable:
        devices = all_devices()
        planned = plan_recipe(recipe, profile, context, candidates=recipes, devices=devices, options=options)
        machine = None if planned.fits else needed_machine(planned, devices)
    if as_json:
        emit_json({**planned.to_json(), "needs": machine})
        return
    print_plan(planned)
    if machine is not None:
        say(f"\nit takes {machine}")
    if planned.fits and not planned.acceptable and not planned.offers:
        refused = [limit for limit in planned.limits if limit.refused]
        say(f"\nnothing edgekit knows keeps that budget: {describe(refused[0], planned)}")


def _plan_all(
    recipes: list[Recipe],
    profile: DeviceProfile,
    device: str,
    context: int | None,
    options: PlanOptions,
    quantization: QuantizationOverrides,
    as_json: bool,
) -> list[Recipe]:
    """Every recipe on one device; returns those that fit, or all when none does."""
    allowed = [recipe for recipe in recipes if (context or 1) <= recipe.max_context]
    plans, refused = {}, {r.name: f"at most {r.max_context} tokens" for r in recipes if r not in allowed}
    unreachable: UsageError | None = None
    for recipe in allowed:
        try:
            plans[recipe.name] = plan_without_offers(recipe, profile, context, options=options)
        except UsageError as error:  # no choice of widths comes to the mean that was asked for
            refused[recipe.name], unreachable = "cannot have that mean of bits", error
    allowed = [recipe for recipe in allowed if recipe.name in plans]
    if unreachable is not None and all(recipe.plan_only for recipe in allowed):
        raise unreachable
    try:
        best = best_recipe(allowed or recipes, profile, context, options)
    except BudgetError:
        if not as_json:
            _print_all(recipes, plans, refused, profile, None)
        raise
    if as_json:
        emit_json({**plans[best.name].to_json(), "plans": [p.to_json() for p in plans.values()]})
    else:
        _print_all(recipes, plans, refused, profile, best)
        words = (*(("--context", str(context)) if context else ()), *quantization_arguments(quantization))
        show("\n" + shlex.join(["edgekit", "build", best.name, "--device", device, *words]))
    return [recipe for recipe in allowed if plans[recipe.name].fits] or allowed


def _print_all(
    recipes: list[Recipe], plans: dict[str, Plan], refused: dict[str, str], device: DeviceProfile, best: Recipe | None
) -> None:
    """One row per recipe."""
    context = max(p.context for p in plans.values())
    first = next(iter(plans.values()))
    title = click.style(device.title, bold=True)
    prompt = first.latency.prompt_tokens
    say(
        f"{title}, {format_bytes(first.usable_bytes)} usable; context {context} tokens, prompt {prompt}, engine "
        f"{first.engine}\nexpected, and in brackets where 80 % of cases lie; decoding with empty and full context\n"
    )
    rows = [
        _row(recipe, plans.get(recipe.name), refused.get(recipe.name, ""), context, recipe is best)
        for recipe in recipes
    ]
    print_table(_columns("model"), rows)
    _print_notes(list(plans.values()))


def _columns(first: str) -> tuple[Column, ...]:
    return (
        Column(first),
        Column("memory", right=True),
        Column("first token"),
        Column("tok/s, empty"),
        Column("tok/s, full"),
        Column(wraps=True),
    )


def _row(recipe: Recipe, p: Plan | None, refusal: str, context: int, recommended: bool) -> tuple[str, ...]:
    if p is None:
        return (recipe.name, "", "", "", "", click.style(refusal, fg="red"))
    name = click.style(recipe.name, bold=True) if recommended else recipe.name
    verdict = _verdict(p, recommended)
    if p.context != context:
        verdict += f" with {p.context} tokens"
    if recipe.plan_only:
        verdict += ", " + click.style("plan only", fg="yellow")
    return (name, *_figures(p), verdict)


def _figures(p: Plan) -> tuple[str, ...]:
    """Memory and speed; dim where the model does not fit, since it would have to."""
    latency = p.latency
    speeds = (show_seconds(latency.ttft_s), show_speed(latency.decode_tok_s), show_speed(latency.decode_full_tok_s))
    return (format_bytes(p.memory.peak), *(speed if p.fits else click.style(speed, dim=True) for speed in speeds))


def _verdict(p: Plan, recommended: bool = False) -> str:
    if not p.fits:
        return click.style("too large", fg="red")
    if not p.acceptable:
        return click.style("fits, too slow", fg="red")
    if recommended:
        return click.style("fits, recommended", fg="green", bold=True)
    slow = any(limit.short_by is not None and limit.short_by > 1 for limit in p.limits)
    return click.style("fits, slow", fg="yellow") if slow else click.style("fits", fg="green")


def _print_notes(plans: list[Plan]) -> None:
    """What the table's words mean, where they stand in it."""
    slow = [limit for p in plans if p.fits for limit in p.limits if limit.short_by is not None and limit.short_by > 1]
    if slow:
        wanted = {"ttft_s": "more than {:g} s to the first token", "decode_tok_s": "less than {:g} tok/s"}
        words = sorted({wanted[limit.name].format(limit.value) for limit in slow})
        show()
        say(click.style(f"slow: {' or '.join(words)}, the budget", dim=True))
    if all(p.latency.decode_tok_s is None for p in plans):
        show()
        say(click.style(UNMEASURED, fg="yellow"))
    elif any(not p.latency.calibrated for p in plans):
        names = "" if all(not p.latency.calibrated for p in plans) else " (~)"
        show()
        say(click.style(f"uncalibrated{names}: nothing was published of such devices; wide intervals", fg="yellow"))


def _plan_everywhere(
    model: str | None,
    context: int | None,
    options: PlanOptions,
    quantization: QuantizationOverrides,
    plot: Path | None,
    as_json: bool,
) -> None:
    """One model on every device."""
    if model is None:
        raise click.UsageError("--all-devices plans one model: name the MODEL; edgekit recipes lists them")
    recipe = _with(load_recipe(model), quantization)
    devices = all_devices()
    pairs = [(device, plan_without_offers(recipe, device, context, options=options)) for device in devices]
    if as_json:
        emit_json({"model": recipe.name, "plans": [planned.to_json() for _, planned in pairs]})
    else:
        _print_everywhere(recipe, pairs)
    if plot is not None:
        from ._plan_picture import write_picture

        write_picture(plot, [(recipe, device) for device, planned in pairs if planned.fits], options)


def _print_everywhere(recipe: Recipe, pairs: list[tuple[DeviceProfile, Plan]]) -> None:
    say(
        f"{click.style(recipe.title, bold=True)}: expected, and in brackets where 80 % of cases lie; decoding with "
        "empty and full context\n"
    )
    rows = []
    for device, planned in sorted(pairs, key=lambda pair: _speed(pair[1])):
        name = device.name if planned.latency.calibrated else f"{device.name} ~"
        verdict = f"{_verdict(planned)} in {format_bytes(planned.usable_bytes)}"
        rows.append((name, *_figures(planned), verdict))
    print_table(_columns("device"), rows)
    _print_notes([planned for _, planned in pairs])


def _speed(planned: Plan) -> tuple[bool, float]:
    """What fits first, the fastest first."""
    decode: Any = planned.latency.decode_tok_s
    return (not planned.fits, -(decode.mid if decode else 0.0))
