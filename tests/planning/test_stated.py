"""Models without a graph, planned from their config.json."""

from __future__ import annotations

import pytest

from edgekit.planning.engines import find_engine
from edgekit.planning.memory import kv_cache_bytes
from edgekit.planning.planned_engine import EngineSetup
from edgekit.planning.stated import stated_dimensions, stated_memory, stated_work
from edgekit.recipes import load_recipe


def test_the_experts_that_are_not_asked_are_not_read() -> None:
    config = load_recipe("deepseek-r1-671b").config
    found = stated_work(config, stated_dimensions(config), 4.5)
    assert found.prompt_multiply_adds + found.last_multiply_adds == pytest.approx(37e9, rel=0.03)
    assert found.token_bytes == pytest.approx(37e9 * 4.5 / 8, rel=0.03)


def test_the_latent_cache_of_the_671b() -> None:
    dimensions = stated_dimensions(load_recipe("deepseek-r1-671b").config)
    assert kv_cache_bytes(dimensions, 1000, "float16") == 61 * (512 + 64) * 1000 * 2


@pytest.mark.parametrize("accelerator_bytes", [None, 10**9])
def test_memory_by_hand(accelerator_bytes: int | None) -> None:
    dimensions = stated_dimensions(load_recipe("deepseek-r1-671b").config)
    setup = EngineSetup(1000, "float16", threads=4, accelerator_bytes=accelerator_bytes)
    found = stated_memory(dimensions, 10**11, find_engine("ort"), setup)
    assert found.kv_cache == 61 * (512 + 64) * 1000 * 2
    assert found.tokenizer == 129_280 * 600
    assert found.runtime == 77_000_000 + (accelerator_bytes or 0)
    assert found.load_peak == 10**11 + found.runtime + found.tokenizer
    # 256 tokens: attention over 1000 positions, projections, MLP, residual, logits, the largest matrix unpacked.
    heads, hidden, mlp, qkv = 128, 7168, 18432, 128 * (2 * 192 + 128)
    rows = 256 * (heads * 1000 * 4 + 2 * qkv * 2 + 3 * 2 * mlp * 2 + 4 * hidden * 2)
    assert found.activations == rows + 129_280 * 6 + hidden * 2 * mlp * 2


def test_a_missing_key_is_named() -> None:
    config = {key: value for key, value in load_recipe("deepseek-r1-671b").config.items() if key != "kv_lora_rank"}
    with pytest.raises(KeyError, match="kv_lora_rank"):
        stated_dimensions(config)
