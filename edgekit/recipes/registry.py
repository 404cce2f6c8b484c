"""Recipes by name or alias: those that come with edgekit, and any file of the user's."""

from __future__ import annotations

from pathlib import Path

from ..errors import RecipeError
from ..library import Library
from .reader import read_recipe
from .recipe import Recipe

# The folder of the installed package, or of the source tree that an editable install runs from.
LIBRARY: Library[Recipe] = Library(
    kind="recipe",
    built_in=(Path(__file__).parent / "library", Path(__file__).parents[2] / "recipes"),
    read=read_recipe,
    error=RecipeError,
    aliases=lambda recipe: recipe.aliases,
)


def all_recipes() -> tuple[Recipe, ...]:
    """Every recipe that comes with edgekit, the smallest model first."""
    return tuple(sorted(LIBRARY.read_all(), key=lambda recipe: recipe.parameters))


def load_recipe(name_or_path: str | Path | Recipe) -> Recipe:
    """A recipe by its name or alias, or from a file.

    Args:
        name_or_path: A name or alias in any case, or a path: a ``Path``, or text that ends in ``.toml``. A recipe is
            returned unchanged.

    Raises:
        UnknownNameError: There is no such recipe; names the nearest.
        RecipeError: The file is not a valid recipe.
    """
    if isinstance(name_or_path, Recipe):
        return name_or_path
    is_name = isinstance(name_or_path, str) and not name_or_path.endswith(".toml")
    return LIBRARY.find(str(name_or_path).lower() if is_name else name_or_path)
