"""Rows of the embedding and the rotary tables that stay in the file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.layout import DataLayout, plan_layout
from edgekit.models import spec_from_config
from edgekit.planning.lookup_tables import FAULT_AROUND_BYTES, unread_bytes
from edgekit.recipes import load_recipe
from edgekit.scheme import QuantizationScheme


def _layout(name: str, embedding: QuantizationScheme | None = None) -> DataLayout:
    recipe = load_recipe(name)
    quantization = replace(recipe.quantization, embedding=embedding or recipe.quantization.embedding)
    return plan_layout(spec_from_config(recipe.config), quantization, "float32", recipe.max_context)


@pytest.mark.parametrize(("tokens", "measured_mb"), [(128, 13.3), (512, 36.4)])
def test_what_was_measured_of_r1s_embedding(tokens: int, measured_mb: float) -> None:
    """Resident bytes of the 124 MB table after random tokens."""
    layout = _layout("deepseek-r1-distill-qwen-1.5b", QuantizationScheme(4, 128, True))
    whole = sum(slot.size_bytes for slot in layout.embedding.slots)
    assert whole / 1e6 == pytest.approx(124, abs=1)
    read = whole - unread_bytes(layout, tokens)[0]
    assert read / 1e6 == pytest.approx(measured_mb, rel=0.03)


def test_nothing_is_read_before_the_first_token_but_a_window_of_each_rotary_table() -> None:
    layout = _layout("deepseek-r1-distill-qwen-1.5b")
    embedding, rotary = unread_bytes(layout, 0)
    assert embedding == sum(slot.size_bytes for slot in layout.embedding.slots)
    assert rotary == layout.rotary_cos.size_bytes + layout.rotary_sin.size_bytes - 2 * FAULT_AROUND_BYTES


def test_the_whole_context_reads_the_rotary_tables_whole() -> None:
    layout = _layout("deepseek-r1-distill-qwen-1.5b")
    assert unread_bytes(layout, layout.rotary_cos.shape[0])[1] == 0
    half = unread_bytes(layout, layout.rotary_cos.shape[0] // 2)[1]
    assert half == pytest.approx((layout.rotary_cos.size_bytes + layout.rotary_sin.size_bytes) / 2, rel=0.02)


def test_an_embedding_that_is_the_lm_head_is_read_whole() -> None:
    assert unread_bytes(_layout("smollm2-135m"), 0)[0] == 0
