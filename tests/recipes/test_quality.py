"""The [quality] table of a recipe: its values, and errors for wrong values."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import RecipeError
from edgekit.recipes import all_recipes, load_recipe
from edgekit.recipes.quality import Thresholds
from edgekit.recipes.reader import read_recipe
from edgekit.recipes.registry import LIBRARY


def read(folder: Path, quality: str) -> Thresholds:
    text = (LIBRARY.folder() / "smollm2-135m.toml").read_text(encoding="utf-8").partition("\n[quality]")[0]
    path = folder / "mine.toml"
    path.write_text(f"{text}\n{quality}", encoding="utf-8")
    return read_recipe(path).quality


def test_each_threshold_can_be_set_and_has_a_default(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Thresholds()
    found = read(tmp_path, "[quality]\nmax_mean_kl = 0.25\nmin_top1 = 1\nno_loops = false")
    assert found == Thresholds(max_mean_kl=0.25, min_top1=1, no_loops=False)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('max_mean_kl = "low"', r"quality\.max_mean_kl is 'low'; it must be a number"),
        ("max_mean_kl = nan", r"quality: max_mean_kl is nan; allowed: a finite number of 0 or more"),
        ("max_p99_kl = inf", r"quality: max_p99_kl is inf; allowed: a finite number of 0 or more"),
        ("max_perplexity_ratio = -1", r"quality: max_perplexity_ratio is -1; allowed: a finite number of 0 or"),
        ("min_top1 = 1.5", r"quality: min_top1 is 1.5; allowed: 0 to 1"),
        ("min_top1 = true", r"quality\.min_top1 is True; it must be a number"),
        ("no_loops = 1", r"quality\.no_loops is 1; it must be true or false"),
        ("max_kl = 1", r"quality: unknown key 'max_kl'; did you mean max_p99_kl or max_mean_kl"),
    ],
)
def test_the_error_for_a_threshold_names_file_key_and_range(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(RecipeError, match=rf"mine\.toml: {words}"):
        read(tmp_path, f"[quality]\n{line}")


def test_every_recipe_that_can_be_built_says_its_thresholds() -> None:
    for recipe in all_recipes():
        text = (LIBRARY.folder() / f"{recipe.name}.toml").read_text(encoding="utf-8")
        assert recipe.plan_only or "[quality]" in text, recipe.name
    assert "quality" in load_recipe("smollm2-135m").to_json()
