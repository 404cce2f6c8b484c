"""A recipe."""

from pathlib import Path

from fuzz_changes import toml_change as change
from fuzz_files import written

from edgekit.models import spec_from_config
from edgekit.recipes.reader import read_recipe

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))]


def read(data: bytes) -> None:
    recipe = read_recipe(written("recipe.toml", data))
    recipe.to_json()
    spec_from_config(recipe.config)
