"""The work of a token, by hand."""

from __future__ import annotations

import pytest

from edgekit.layout import plan_layout
from edgekit.models import spec_from_config
from edgekit.planning.work import work_of
from edgekit.recipes import load_recipe


def test_the_work_of_a_token_by_hand() -> None:
    recipe = load_recipe("smollm2-135m")
    spec = spec_from_config(recipe.config)
    found = work_of(spec, plan_layout(spec, recipe.quantization, "float32", 1), recipe.quantization)
    layer = 576 * (576 + 2 * 192 + 576) + 3 * 576 * 1536
    assert found.prompt_multiply_adds == 30 * layer - 3 * 576 * 1536, "the last layer's is for the last token only"
    assert found.last_multiply_adds == 49152 * 576 + 3 * 576 * 1536
    assert found.attention_multiply_adds == 2 * 30 * 9 * 64
    codes = 30 * layer * (0.5 + 4 / 32 + 0.5 / 32) + 49152 * 576 * (1 + 4 / 32)
    assert found.token_bytes == pytest.approx(codes, rel=0.003)
