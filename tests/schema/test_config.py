"""The ranges of config.json: what is published is accepted, and what cannot be meant is refused."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.errors import CheckpointError, UnsupportedModelError
from edgekit.models import spec_from_config
from edgekit.recipes import all_recipes
from edgekit.schema.config import check_config, check_rope

TINY: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def test_the_configs_of_all_recipes_are_accepted() -> None:
    for recipe in all_recipes():
        check_config(recipe.config)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("rms_norm_eps", 1e30, "a number from 1e-12 to 0.1"),
        ("rms_norm_eps", -1, "a number from 1e-12 to 0.1"),
        ("rms_norm_eps", "x", "a number from 1e-12 to 0.1"),
        ("tie_word_embeddings", "false", "true or false"),
        ("attention_bias", "false", "true or false"),
        ("mlp_bias", 1, "true or false"),
        ("num_hidden_layers", 2**31 - 1, "a whole number from 1 to 1000"),
        ("hidden_size", 2**31 - 1, "a whole number from 1 to 1048576"),
        ("head_dim", 2**31 - 2, "a whole number from 2 to 4096"),
        ("vocab_size", 2**63, "a whole number from 1 to"),
        ("rope_theta", 1e30, "a number above 0"),
        ("architectures", "LlamaForCausalLM", "a list of at most 100 values"),
        ("rope_scaling", {"rope_type": "default", "factor": -4.0}, "a number above 0"),
        ("rope_parameters", {"rope_type": "linear", "factor": 1e30}, "a number above 0"),
        (
            "rope_scaling",
            {"rope_type": "dynamic", "factor": 2, "original_max_position_embeddings": 1.5},
            "a whole number",
        ),
    ],
)
def test_values_that_cannot_be_meant(key: str, value: Any, allowed: str) -> None:
    with pytest.raises(CheckpointError, match=allowed) as failure:
        spec_from_config({**TINY, key: value})
    assert failure.value.message.startswith("config.json: ")


def test_null_is_a_missing_key() -> None:
    assert spec_from_config({**TINY, "rms_norm_eps": None, "hidden_act": None, "head_dim": None}).rms_norm_eps == 1e-6


@pytest.mark.parametrize("head_dim", [8, 15, 20, 40, 100])
def test_head_sizes_without_a_kernel_are_refused(head_dim: int) -> None:
    with pytest.raises(UnsupportedModelError, match=f"head_dim is {head_dim}; edgekit supports multiples of 16"):
        spec_from_config({**TINY, "head_dim": head_dim})


def test_the_rotary_embedding_alone() -> None:
    check_rope({"rope_type": "llama3", "factor": 8.0, "unknown": object()})
    with pytest.raises(CheckpointError, match="attention_factor is 0; it must be a number above 0"):
        check_rope({"attention_factor": 0})
