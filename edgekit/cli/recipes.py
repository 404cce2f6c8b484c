"""``edgekit recipes``: the models edgekit knows, and where each comes from."""

from __future__ import annotations

import click

from ..recipes import Recipe, all_recipes, load_recipe
from ..recipes.recipe import source_kind
from ..units import format_count
from . import _options as options
from ._output import Cell, Column, emit_json, open_screen
from ._plan_table import describe_quantization


@options.command(
    "edgekit recipes",
    "edgekit recipes deepseek-r1-distill-qwen-1.5b",
    see_also="edgekit plan predicts memory and speed of a recipe, edgekit build builds it.",
)
@click.argument("name", required=False)
@options.as_json
def command(name: str | None, as_json: bool) -> None:
    """List the models edgekit can build or plan, or show one recipe.

    NAME is a recipe, an alias such as r1-1.5b, or a .toml file.
    """
    if name is not None:
        recipe = load_recipe(name)
        if as_json:
            emit_json(recipe.to_json())
        else:
            _print_one(recipe)
        return
    recipes = all_recipes()
    if as_json:
        emit_json({"recipes": [recipe.to_json() for recipe in recipes]})
    else:
        _print_all(recipes)


def _print_all(recipes: tuple[Recipe, ...]) -> None:
    columns = (
        Column("model"),
        Column("alias", optional=True),
        Column("parameters", right=True),
        Column("context", right=True, optional=True),
        Column("reasoning", optional=True),
        Column("source"),
    )
    rows: list[list[Cell]] = []
    for recipe in recipes:
        limits = [format_count(recipe.parameters), str(recipe.max_context), "yes" if recipe.reasoning else "no"]
        alias = recipe.aliases[0] if recipe.aliases else ""
        plan_only = (", plan only" if recipe.plan_only else "", "yellow")
        rows.append([(recipe.name, "bold"), alias, *limits, [source_kind(recipe.source), plan_only]])
    screen = open_screen()
    screen.table(columns, rows)
    note = "hub: Hugging Face; package: a Python package; plan only: cannot be built, edgekit recipes NAME says why"
    screen.say((f"\n{note}", "dim"))


def _print_one(recipe: Recipe) -> None:
    screen = open_screen()
    screen.say((recipe.title, "bold"), f": {recipe.name}{_aliases(recipe)}\n")
    sampling = recipe.default_sampling
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
    screen.table((Column(), Column(wraps=True)), [((key, "bold"), value) for key, value in rows.items()])


def _aliases(recipe: Recipe) -> str:
    return f" ({', '.join(recipe.aliases)})" if recipe.aliases else ""
