"""The work of a token, by hand."""

from __future__ import annotations

import pytest

from edgekit.layout import plan_layout
from edgekit.models import spec_from_config
from edgekit.planning.work import Work, work_of
from edgekit.recipes import load_recipe
from edgekit.scheme import QuantizationConfig, QuantizationScheme


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


def test_a_prompts_work_by_hand() -> None:
    work = Work(1, 1, prompt_multiply_adds=100, last_multiply_adds=7, attention_multiply_adds=3, format="4bit")
    assert work.multiply_adds(5) == 507
    assert work.attention(5) == 3 * (1 + 2 + 3 + 4 + 5)


@pytest.mark.parametrize(("bits", "name"), [(4, "4bit"), (8, "8bit"), (None, "float16")])
def test_the_format_is_that_of_the_layers(bits: int | None, name: str) -> None:
    scheme = None if bits is None else QuantizationScheme(bits, 32, True)
    quantization = QuantizationConfig(scheme, None, None)
    spec = spec_from_config(load_recipe("smollm2-135m").config)
    assert work_of(spec, plan_layout(spec, quantization, "float32", 1), quantization).format == name
