"""Recipes: one TOML file per model, naming its source, shapes, quantization and sampling defaults."""

from .recipe import FolderSource, HubSource, PackageSource, Recipe, Source
from .registry import all_recipes, load_recipe

__all__ = ["FolderSource", "HubSource", "PackageSource", "Recipe", "Source", "all_recipes", "load_recipe"]
