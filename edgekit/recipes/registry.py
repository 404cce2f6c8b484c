"""Recipes by name: the library that comes with edgekit, and any file the user has."""

from __future__ import annotations

from pathlib import Path

from ..errors import RecipeError, UnknownNameError, nearest
from .recipe import Recipe, read_recipe

_INSTALLED = Path(__file__).parent / "library"
_CHECKOUT = Path(__file__).parents[2] / "recipes"  # an editable install runs from the source tree


def library() -> Path:
    """The folder of recipe files: the installed package's, or the source checkout's.

    Raises:
        RecipeError: Neither is there.
    """
    for folder in (_INSTALLED, _CHECKOUT):
        if folder.is_dir():
            return folder
    raise RecipeError(f"edgekit's recipes are missing: no folder {_INSTALLED}", hint="install edgekit-llm again")


def recipe_names() -> tuple[str, ...]:
    """The names of the library's recipes, sorted."""
    return tuple(sorted(path.stem for path in library().glob("*.toml")))


def all_recipes() -> tuple[Recipe, ...]:
    """Every recipe of the library, the smallest model first."""
    recipes = (read_recipe(library() / f"{name}.toml") for name in recipe_names())
    return tuple(sorted(recipes, key=lambda recipe: recipe.parameters))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by its name, or from a file of the user.

    Args:
        name_or_path: A name of the library, or a path: a ``Path``, or text that ends in ``.toml``.

    Raises:
        UnknownNameError: The library has no such recipe; names the nearest.
        RecipeError: The file is not a valid recipe.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(".toml"):
        return read_recipe(Path(name_or_path))
    if name_or_path not in recipe_names():
        raise UnknownNameError(
            f"there is no recipe {name_or_path!r}; {nearest(name_or_path, recipe_names())}",
            hint="edgekit recipes lists them; the path of a .toml file works too",
        )
    return read_recipe(library() / f"{name_or_path}.toml")
