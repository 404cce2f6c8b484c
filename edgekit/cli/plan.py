"""``edgekit plan``: how much memory a model needs on a device and how fast it will be, before anything is fetched."""

from __future__ import annotations

import shlex
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..devices import DeviceProfile, all_devices, load_device
from ..errors import BudgetError, EdgekitError, UsageError
from ..planning import planner
from ..planning.choice import best_recipe, needed_machine
from ..planning.draft import draft
from ..planning.plan import Plan, PlanOptions
from ..recipes import Recipe, all_recipes, load_recipe
from ..scheme import QuantizationOverrides
from ..units import format_bytes
from ._output import emit_json, json_option, open_screen, styled
from ._plan_options import plan_options
from ._plan_table import UNMEASURED, print_plan, show_seconds, show_speed
from ._quantization_options import quantization_arguments, quantization_options

if TYPE_CHECKING:
    from rich.text import Text

    from ._screen import Cell, Column, Screen

_PICTURES = (".svg", ".png", ".pdf")
_LEGEND = (
    "Expected values, with 80 % prediction intervals in brackets; tokens per second with an empty and a full context.\n"
)
_EXAMPLES = """
\b
Examples:
  edgekit plan --device jetson
  edgekit plan deepseek-r1-distill-qwen-7b --device jetson --context 8192
  edgekit plan deepseek-r1-distill-qwen-1.5b --all-devices
  edgekit plan --device pi --min-decode 8 --max-ttft 2s --plot pi.svg

See also: edgekit devices and edgekit recipes list the names, edgekit build builds what was planned.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("model", required=False)
@click.option(
    "--device", metavar="NAME", help="Plan for this device: a name, an alias or a .toml file; see edgekit devices."
)
@click.option("--all-devices", "every_device", is_flag=True, help="Plan MODEL for every device.")
@click.option(
    "--context",
    metavar="TOKENS",
    type=click.IntRange(min=1),
    help="Plan for this many tokens of prompt and answer together  [default: the device's]",
)
@plan_options
@quantization_options
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw speed, time to the first token and memory into a .svg, .png or .pdf file. Needs matplotlib: "
    'pip install "edgekit-llm[plot]".',
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
    """Predict whether MODEL fits a device, how much memory it needs and how fast it runs.

    MODEL is a recipe (see edgekit recipes) or a recipe file. Without MODEL, edgekit plans every recipe and recommends
    the best one that fits.

    The prediction uses the recipe and the device profile alone; no weights are fetched. Each speed comes with its 80 %
    prediction interval. If the model does not fit, the plan lists options that do.
    """
    if every_device == (device is not None):
        raise click.UsageError("give either --device NAME, or --all-devices and a MODEL")
    if plot is not None and plot.suffix not in _PICTURES:
        raise click.BadParameter(f"{plot} does not end in .svg, .png or .pdf", param_hint="--plot")
    if plot is not None and find_spec("matplotlib") is None:
        raise EdgekitError(
            "--plot draws with matplotlib, which is not installed", hint='pip install "edgekit-llm[plot]"'
        )
    if device is None:
        _plan_everywhere(model, context, options, quantization, plot, as_json)
        return
    profile = load_device(device)
    recipes = [_with(recipe, quantization) for recipe in all_recipes()]
    if model is None:
        _plan_all(recipes, profile, device, context, options, quantization, plot, as_json)
        return
    recipe = _with(load_recipe(model), quantization)
    _plan_one(recipe, recipes, profile, context, options, as_json)
    _draw(plot, [(recipe, profile)], context, options)


def _with(recipe: Recipe, quantization: QuantizationOverrides) -> Recipe:
    return replace(recipe, quantization=quantization.applied_to(recipe.quantization))


def _draw(
    plot: Path | None, pairs: list[tuple[Recipe, DeviceProfile]], context: int | None, options: PlanOptions
) -> None:
    if plot is None:
        return
    from ._plan_picture import write_picture  # imports matplotlib

    write_picture(plot, pairs, context, options)
    open_screen(err=True).say(f"\npicture written to {plot}")


def _plan_one(
    recipe: Recipe,
    recipes: list[Recipe],
    profile: DeviceProfile,
    context: int | None,
    options: PlanOptions,
    as_json: bool,
) -> None:
    planned = draft(recipe, profile, context, options=options)
    machine = None
    if not planned.acceptable:
        devices = all_devices()
        planned = planner.plan(recipe, profile, context, candidates=recipes, devices=devices, options=options)
        machine = None if planned.fits else needed_machine(planned, devices)
    if as_json:
        emit_json({**planned.to_json(), "needs": machine})
        return
    screen = open_screen()
    print_plan(planned, screen)
    if machine is not None:
        screen.say(f"\nThis model needs {machine}.")
    if planned.fits and not planned.acceptable and not planned.offers:
        screen.say(f"\nNo known option meets this budget: {planned.refused[0].describe()}")


def _plan_all(
    recipes: list[Recipe],
    profile: DeviceProfile,
    device: str,
    context: int | None,
    options: PlanOptions,
    quantization: QuantizationOverrides,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Plan every recipe for one device and recommend one."""
    plans, refused = _plans(recipes, profile, context, options)
    planned = [recipe for recipe in recipes if recipe.name in plans]
    best, none_fits = None, None
    try:
        best = best_recipe(planned or recipes, profile, context, options)
    except BudgetError as error:
        none_fits = error
    if best is not None and as_json:
        emit_json({**plans[best.name].to_json(), "plans": [p.to_json() for p in plans.values()]})
    elif not as_json:
        screen = open_screen()
        _print_all(screen, recipes, plans, refused, profile)
        if best is not None:
            words = (*(("--context", str(context)) if context else ()), *quantization_arguments(quantization))
            _recommend(screen, best, plans, shlex.join(["edgekit", "build", best.name, "--device", device, *words]))
    _draw(plot, [(recipe, profile) for recipe in planned], context, options)
    if none_fits is not None:
        raise none_fits


def _plans(
    recipes: list[Recipe], profile: DeviceProfile, context: int | None, options: PlanOptions
) -> tuple[dict[str, Plan], dict[str, str]]:
    """The plan of each recipe by its name, and why the others cannot be planned as asked.

    Raises:
        UsageError: No model that can be built reaches the requested mean of bits.
    """
    plans, refused = {}, {}
    unreachable: UsageError | None = None
    for recipe in recipes:
        if context is not None and context > recipe.max_context:
            refused[recipe.name] = f"at most {recipe.max_context} tokens"
            continue
        try:
            plans[recipe.name] = draft(recipe, profile, context, options=options)
        except UsageError as error:
            refused[recipe.name], unreachable = "cannot reach this mean of bits", error
    if unreachable is not None and all(recipe.plan_only for recipe in recipes if recipe.name in plans):
        raise unreachable
    return plans, refused


def _print_all(
    screen: Screen, recipes: list[Recipe], plans: dict[str, Plan], refused: dict[str, str], device: DeviceProfile
) -> None:
    """One row per recipe."""
    context = max(p.context for p in plans.values())
    first = next(iter(plans.values()))
    screen.say(
        (device.title, "bold"),
        f", {format_bytes(first.usable_bytes)} usable; context {context} tokens, prompt "
        f"{first.latency.prompt_tokens} tokens, engine {first.engine}",
    )
    screen.say(_LEGEND)
    rows = [_row(recipe, plans.get(recipe.name), refused.get(recipe.name, ""), context) for recipe in recipes]
    screen.table(_columns("model"), rows)
    _print_notes(screen, list(plans.values()))


def _recommend(screen: Screen, best: Recipe, plans: dict[str, Plan], build: str) -> None:
    """Name the models that fit, the one to take and the command that builds it."""
    fitting = [p.model for p in plans.values() if p.fits]
    screen.say(
        f"\n{len(fitting)} of {len(plans)} models fit. Recommended: ", (best.name, "bold green"), ". Build it with:"
    )
    screen.print(f"  {build}", soft_wrap=True)


def _columns(first: str) -> tuple[Column, ...]:
    from ._screen import Column

    return (
        Column(first),
        Column("memory", right=True),
        Column("first token", optional=True),
        Column("tok/s, empty", optional=True),
        Column("tok/s, full"),
        Column("fits", wraps=True),
    )


def _row(recipe: Recipe, p: Plan | None, refusal: str, context: int) -> tuple[Cell, ...]:
    if p is None:
        return (recipe.name, "", "", "", "", styled((refusal, "red")))
    verdict = _verdict(p)
    if p.fits and p.context != context:
        verdict.append(f" with {p.context} tokens")
    if p.fits and recipe.plan_only:
        verdict.append(", ").append("plan only", "yellow")
    return (styled((recipe.name, "bold" if p.acceptable else "")), *_figures(p), verdict)


def _figures(p: Plan) -> tuple[Cell, ...]:
    """Memory and speed; the speed is dim where the model does not fit."""
    latency = p.latency
    speeds = (show_seconds(latency.ttft_s), show_speed(latency.decode_tok_s), show_speed(latency.decode_full_tok_s))
    return (format_bytes(p.memory.peak), *(styled((speed, "" if p.fits else "dim")) for speed in speeds))


def _verdict(p: Plan) -> Text:
    if not p.fits:
        return styled(("no", "red"))
    if not p.acceptable:
        return styled(("too slow", "red"))
    return styled(("slow", "yellow") if p.slow else ("yes", "green"))


def _print_notes(screen: Screen, plans: list[Plan]) -> None:
    """Explain the words that occur in the table."""
    slow = [limit for p in plans if p.fits for limit in p.limits if limit.slow]
    if slow:
        words = {"ttft_s": "more than {:g} s to the first token", "decode_tok_s": "less than {:g} tok/s"}
        limits = sorted({words[limit.name].format(limit.value) for limit in slow})
        screen.say((f"\nslow: fits, but {' or '.join(limits)}", "dim"))
    if any(p.plan_only for p in plans if p.fits):
        screen.say(("\nplan only: edgekit can plan this model but not build it", "dim"))
    if all(p.latency.decode_tok_s is None for p in plans):
        screen.say((f"\n{UNMEASURED}", "yellow"))
    elif any(not p.latency.calibrated for p in plans):
        names = "" if all(not p.latency.calibrated for p in plans) else " (~)"
        screen.say((f"\nuncalibrated{names}: no measurements of similar devices are known; wide intervals", "yellow"))


def _plan_everywhere(
    model: str | None,
    context: int | None,
    options: PlanOptions,
    quantization: QuantizationOverrides,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Plan one model for every device."""
    if model is None:
        raise click.UsageError("--all-devices needs a MODEL; edgekit recipes lists them")
    recipe = _with(load_recipe(model), quantization)
    devices = all_devices()
    pairs = [(device, draft(recipe, device, context, options=options)) for device in devices]
    if as_json:
        emit_json({"model": recipe.name, "plans": [planned.to_json() for _, planned in pairs]})
    else:
        _print_everywhere(recipe, pairs)
    _draw(plot, [(recipe, device) for device in devices], context, options)


def _print_everywhere(recipe: Recipe, pairs: list[tuple[DeviceProfile, Plan]]) -> None:
    from ._screen import Column

    screen = open_screen()
    screen.say((recipe.title, "bold"), f" on {len(pairs)} devices, fastest first")
    screen.say(_LEGEND)
    rows = []
    for device, planned in sorted(pairs, key=lambda pair: _speed(pair[1])):
        name = device.name if planned.latency.calibrated else f"{device.name} ~"
        rows.append((name, *_figures(planned), _verdict(planned), format_bytes(planned.usable_bytes)))
    screen.table((*_columns("device"), Column("usable memory", right=True, optional=True)), rows)
    _print_notes(screen, [planned for _, planned in pairs])


def _speed(planned: Plan) -> tuple[bool, float]:
    """Sorts devices that fit before the others, and then by speed."""
    decode = planned.latency.decode_tok_s
    return (not planned.fits, -(decode.mid if decode else 0.0))
