"""``edgekit plan``: what a model needs on a device, before anything is fetched."""

from __future__ import annotations

import shlex
from dataclasses import replace

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..devices import DeviceProfile, load_device
from ..errors import BudgetError
from ..planning.plan import Plan, best_recipe, plan
from ..recipes import Recipe, all_recipes, load_recipe
from ..units import format_bytes
from ._output import emit_json, json_option, stdout_console
from ._plan_table import print_plan
from ._quantization_options import QuantizationOptions, quantization_options


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
            print_plan(planned, stdout_console())
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
        _print_all(recipes, plans, profile, None, stdout_console())
        raise error
    console = stdout_console()
    _print_all(recipes, plans, profile, best, console)
    options = (*(("--context", str(context)) if context else ()), *quantization.arguments())
    console.print(escape(shlex.join(["edgekit", "build", best.name, "--device", device, *options])), soft_wrap=True)


def _with(recipe: Recipe, quantization: QuantizationOptions) -> Recipe:
    return replace(recipe, quantization=quantization.apply(recipe.quantization))


def _print_all(
    recipes: list[Recipe], plans: list[Plan], device: DeviceProfile, best: Recipe | None, console: Console
) -> None:
    """One row per recipe."""
    context = max(p.context for p in plans)
    usable = format_bytes(device.usable_bytes)
    console.print(f"[bold]{escape(device.title)}[/], {usable} usable; context {context} tokens")
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for heading in ("weights", "KV cache", "total"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    by_model = {p.model: p for p in plans}
    for recipe in recipes:
        p = by_model.get(recipe.name)
        name = escape(recipe.name)
        if p is None:
            table.add_row(name, "", "", "", f"[red]holds {recipe.max_context} tokens at most[/]")
            continue
        verdict = "[green]fits[/]" if p.fits else "[red]too large[/]"
        if recipe is best:
            name, verdict = f"[bold]{name}[/]", "[bold green]fits, recommended[/]"
        if p.context != context:
            verdict += f" with {p.context} tokens"
        if recipe.plan_only:
            verdict += ", [yellow]plan only[/]"
        sizes = (p.memory.weights, p.memory.kv_cache, p.memory.total)
        table.add_row(name, *(format_bytes(size) for size in sizes), verdict)
    console.print(table)
