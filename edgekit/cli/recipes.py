"""``edgekit recipes``: what can be built, and where each model comes from."""

from __future__ import annotations

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..recipes import Recipe, all_recipes, load_recipe
from ..recipes.recipe import source_kind
from ..units import format_count
from ._output import emit_json, json_option, stdout_console
from ._plan_table import describe_quantization


@click.command()
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the models, or show one recipe. NAME is a recipe or a .toml file."""
    if name is not None:
        recipe = load_recipe(name)
        if as_json:
            emit_json(recipe.to_json())
        else:
            _print_one(recipe, stdout_console())
        return
    recipes = all_recipes()
    if as_json:
        emit_json({"recipes": [recipe.to_json() for recipe in recipes]})
        return
    _print_all(recipes, stdout_console())


def _print_all(recipes: tuple[Recipe, ...], console: Console) -> None:
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("model", style="bold", no_wrap=True)
    for heading in ("parameters", "max context"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("reasons", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("", no_wrap=True)
    for recipe in recipes:
        table.add_row(
            escape(recipe.name),
            format_count(recipe.parameters),
            str(recipe.max_context),
            "yes" if recipe.reasoning else "no",
            source_kind(recipe.source),
            "[yellow]plan only[/]" if recipe.plan_only else "",
        )
    console.print(table)
    console.print(
        "[dim]hub: fetched from Hugging Face; package: fetched with pip; plan only: edgekit recipes NAME says why[/]"
    )


def _print_one(recipe: Recipe, console: Console) -> None:
    console.print(f"[bold]{escape(recipe.title)}[/]: {escape(recipe.name)}")
    sampling = recipe.sampling
    rows = {
        "licence": recipe.licence,
        "parameters": f"{format_count(recipe.parameters)} ({recipe.parameters})",
        "source": str(recipe.source),
        "family": f"{recipe.config['model_type']}, {recipe.config.get('num_hidden_layers', '?')} layers, "
        f"hidden size {recipe.config.get('hidden_size', '?')}",
        "context": f"up to {recipe.max_context} tokens",
        "quantization": f"{recipe.quantization.method}: {describe_quantization(recipe.quantization)}",
        "sampling": f"temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, top_k {sampling.top_k}, "
        f"min_p {sampling.min_p:g}, repetition penalty {sampling.repetition_penalty:g}",
        "reasoning": "yes, between <think> and </think>" if recipe.reasoning else "no",
    }
    if recipe.plan_only:
        rows["plan only"] = recipe.plan_only
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for key, value in rows.items():
        table.add_row(key, escape(value))
    console.print(table)
