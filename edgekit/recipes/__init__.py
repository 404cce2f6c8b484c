"""Recipes: one TOML file per model, naming its source, shapes, quantization and sampling defaults."""

from .reader import read_recipe
from .recipe import FolderSource, HubSource, PackageSource, Recipe, Source
from .registry import all_recipes, load_recipe, recipe_names

__all__ = [
    "FolderSource",
    "HubSource",
    "PackageSource",
    "Recipe",
    "Source",
    "all_recipes",
    "load_recipe",
    "read_recipe",
    "recipe_names",
]
