"""Reads a recipe's TOML file and checks it; ``recipe.py`` describes its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..host import expanded
from ..schema.config import CONFIG
from ..schema.fields import check_table, shown
from ..scheme import METHODS, QuantizationConfig, QuantizationScheme
from ..toml_table import TableReader
from .recipe import SOURCES, FolderSource, Recipe, Source

# A misspelling of a key is closer to it than this, and no key of transformers' families of language models is: the
# closest is DeepSeek-V3's qk_head_dim with 0.87 to v_head_dim.
_NEAR = 0.9
FLOAT = "float"  # a part that stays in the activation's type; TOML has no null


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe file.

    Args:
        path: A ``.toml`` file; its stem becomes the recipe's name.

    Raises:
        RecipeError: The file cannot be read, is not TOML, has unknown or missing keys, or an impossible value.
    """
    given = {"name": path.stem}
    recipe = _READER.build(
        Recipe, _READER.load(path), str(path), separator=": ", given=given, hidden=("reasoning_signs",)
    )
    _check_keys(recipe.config, f"{path}: [config]")
    check_table(recipe.config, CONFIG, f"{path}: [config]", RecipeError)
    if isinstance(recipe.source, FolderSource):
        return replace(recipe, source=FolderSource(str(path.parent / expanded(recipe.source.path))))
    return recipe


def _check_keys(config: Mapping[str, Any], where: str) -> None:
    """Refuse a key that is nearly one that edgekit reads. Others are allowed: config.json files have many."""
    known = (*CONFIG, "rope_scaling", "rope_parameters")
    for key in config:
        if key not in known and (near := get_close_matches(key, known, n=1, cutoff=_NEAR)):
            raise RecipeError(f"{where}: unknown key {key!r}; did you mean {near[0]}?")


def _source(reader: TableReader, hint: Any, value: Any, where: str) -> Source:
    table = dict(reader.table(value, where))
    kind = table.pop("kind", None)
    if not isinstance(kind, str) or kind not in SOURCES:
        raise RecipeError(f"{where}.kind is {shown(kind)}; allowed: {', '.join(SOURCES)}")
    return reader.build(SOURCES[kind], table, where)


def _quantization(reader: TableReader, hint: Any, value: Any, where: str) -> QuantizationConfig:
    method = reader.table(value, where).get("method", METHODS[0])
    if method not in METHODS:  # a checkpoint's own codes also have a method, which a recipe cannot ask for
        raise RecipeError(f"{where}.method is {shown(method)}; allowed: {', '.join(METHODS)}")
    return reader.build(QuantizationConfig, value, where, required=("method",), hidden=("matrices",))


def _scheme(reader: TableReader, hint: Any, value: Any, where: str) -> QuantizationScheme | None:
    if value == FLOAT:
        return None
    if not isinstance(value, dict):
        raise RecipeError(f'{where} is {value!r}; it must be a table or "{FLOAT}"')
    return reader.build(QuantizationScheme, value, where, required=("bits", "block_size", "symmetric"))


_READER = TableReader(
    "recipe", RecipeError, {Source: _source, QuantizationConfig: _quantization, QuantizationScheme | None: _scheme}
)
