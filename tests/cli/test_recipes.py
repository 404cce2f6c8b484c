"""``edgekit recipes``: the table, and one recipe."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from edgekit.cli.recipes import command
from edgekit.errors import UnknownNameError
from edgekit.recipes import load_recipe
from edgekit.recipes.registry import LIBRARY


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_the_table_has_every_recipe() -> None:
    text = _run().stdout
    for name in LIBRARY.names():
        row = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert ("plan only" in row) is bool(load_recipe(name).plan_only)


@pytest.mark.parametrize("name", LIBRARY.names())
def test_one_recipe_shows_licence_source_and_why(name: str) -> None:
    recipe, text = load_recipe(name), " ".join(_run(name).stdout.split())
    for word in (recipe.title, recipe.licence, str(recipe.parameters), str(recipe.max_context), recipe.plan_only):
        assert word in text
    assert json.loads(_run(name, "--json").stdout) == recipe.to_json()


def test_json_lists_them() -> None:
    listed = json.loads(_run("--json").stdout)["recipes"]
    assert sorted(recipe["name"] for recipe in listed) == sorted(LIBRARY.names())


def test_an_unknown_recipe() -> None:
    assert isinstance(_run("smollm").exception, UnknownNameError)
