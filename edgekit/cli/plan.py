"""``edgekit plan``: what a model needs on a device, before anything is fetched."""

from __future__ import annotations

import shlex
from dataclasses import replace

import click

from ..devices import DeviceProfile, load_device
from ..errors import BudgetError
from ..planning.plan import Plan, best_recipe, plan
from ..recipes import Recipe, all_recipes, load_recipe
from ..units import format_bytes
from ._output import emit_json, json_option, print_table, say, show
from ._plan_table import print_plan
from ._quantization_options import QuantizationOptions, quantization_options
from ._table import Column


@click.command()
@click.argument("model", required=False)
@click.option("--device", required=True, help="Name, alias or .toml file of the device; see edgekit devices.")
@click.option("--context", type=click.IntRange(min=1), help="Tokens to hold: prompt and answer together.")
@quantization_options
@json_option
def command(
    model: str | None, device: str, context: int | None, quantization: QuantizationOptions, as_json: bool
) -> None:
    """Say what MODEL needs on a device and whether it fits; without MODEL, try every recipe.

    Memory is predicted from the recipe and the device profile alone: nothing is fetched. What does not fit comes with
    what does.

    \b
      edgekit plan --device jetson
      edgekit plan deepseek-r1-distill-qwen-7b --device jetson --context 8192
    """
    profile = load_device(device)
    recipes = [_with(recipe, quantization) for recipe in all_recipes()]
    if model is not None:
        planned = plan(_with(load_recipe(model), quantization), profile, context, candidates=recipes)
        if as_json:
            emit_json(planned.to_json())
        else:
            print_plan(planned)
        return
    plans = [plan(r, profile, context, candidates=recipes) for r in recipes if (context or 1) <= r.max_context]
    if as_json:
        best = best_recipe(recipes, profile, context)
        found = next(p for p in plans if p.model == best.name)
        emit_json({**found.to_json(), "plans": [p.to_json() for p in plans]})
        return
    try:
        best = best_recipe(recipes, profile, context)
    except BudgetError as error:
        _print_all(recipes, plans, profile, None)
        raise error
    _print_all(recipes, plans, profile, best)
    options = (*(("--context", str(context)) if context else ()), *quantization.arguments())
    show("\n" + shlex.join(["edgekit", "build", best.name, "--device", device, *options]))


def _with(recipe: Recipe, quantization: QuantizationOptions) -> Recipe:
    return replace(recipe, quantization=quantization.apply(recipe.quantization))


def _print_all(recipes: list[Recipe], plans: list[Plan], device: DeviceProfile, best: Recipe | None) -> None:
    """One row per recipe."""
    context = max(p.context for p in plans)
    title = click.style(device.title, bold=True)
    say(f"{title}, {format_bytes(device.usable_bytes)} usable; context {context} tokens\n")
    sizes = (Column(heading, right=True) for heading in ("weights", "KV cache", "total"))
    by_model = {p.model: p for p in plans}
    rows = [_row(recipe, by_model.get(recipe.name), context, recipe is best) for recipe in recipes]
    print_table((Column("model"), *sizes, Column(wraps=True)), rows)


def _row(recipe: Recipe, p: Plan | None, context: int, recommended: bool) -> tuple[str, ...]:
    if p is None:
        refusal = f"holds {recipe.max_context} tokens at most"
        return (recipe.name, "", "", "", click.style(refusal, fg="red"))
    name, verdict = recipe.name, click.style("fits", fg="green") if p.fits else click.style("too large", fg="red")
    if recommended:
        name, verdict = click.style(name, bold=True), click.style("fits, recommended", fg="green", bold=True)
    if p.context != context:
        verdict += f" with {p.context} tokens"
    if recipe.plan_only:
        verdict += ", " + click.style("plan only", fg="yellow")
    return (name, *(format_bytes(size) for size in (p.memory.weights, p.memory.kv_cache, p.memory.total)), verdict)
