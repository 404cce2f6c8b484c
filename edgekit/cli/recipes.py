"""``edgekit recipes``: what can be built, and where each model comes from."""

from __future__ import annotations

import click

from ..recipes import Recipe, all_recipes, load_recipe
from ..recipes.recipe import source_kind
from ..units import format_count
from ._output import emit_json, json_option, print_table, say
from ._plan_table import describe_quantization
from ._table import Column


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
            _print_one(recipe)
        return
    recipes = all_recipes()
    if as_json:
        emit_json({"recipes": [recipe.to_json() for recipe in recipes]})
        return
    _print_all(recipes)


def _print_all(recipes: tuple[Recipe, ...]) -> None:
    columns = (
        Column("model"),
        Column("parameters", right=True),
        Column("max context", right=True),
        Column("reasons"),
        Column("from"),
        Column(),
    )
    rows = [
        (
            click.style(recipe.name, bold=True),
            format_count(recipe.parameters),
            str(recipe.max_context),
            "yes" if recipe.reasoning else "no",
            source_kind(recipe.source),
            click.style("plan only", fg="yellow") if recipe.plan_only else "",
        )
        for recipe in recipes
    ]
    print_table(columns, rows)
    note = "hub: fetched from Hugging Face; package: fetched with pip; plan only: edgekit recipes NAME says why"
    say("\n" + click.style(note, dim=True))


def _print_one(recipe: Recipe) -> None:
    say(f"{click.style(recipe.title, bold=True)}: {recipe.name}\n")
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
    print_table((Column(), Column(wraps=True)), [(click.style(key, bold=True), value) for key, value in rows.items()])
