"""Models without a graph, planned from their config.json."""

from __future__ import annotations

import pytest

from edgekit.planning.memory import kv_cache_bytes
from edgekit.planning.stated import stated_dimensions, stated_work
from edgekit.recipes import load_recipe


def test_the_experts_that_are_not_asked_are_not_read() -> None:
    config = load_recipe("deepseek-r1-671b").config
    found = stated_work(config, stated_dimensions(config), 4.5)
    assert found.prompt_multiply_adds + found.last_multiply_adds == pytest.approx(37e9, rel=0.03)
    assert found.token_bytes == pytest.approx(37e9 * 4.5 / 8, rel=0.03)


def test_the_latent_cache_of_the_671b() -> None:
    dimensions = stated_dimensions(load_recipe("deepseek-r1-671b").config)
    assert kv_cache_bytes(dimensions, 1000, "float16") == 61 * (512 + 64) * 1000 * 2
