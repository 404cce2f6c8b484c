"""Keys of config.json that change what a model computes are refused, and their usual values are not."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_checkpoint import tiny_config

from edgekit.errors import CheckpointError, UnsupportedModelError
from edgekit.models import spec_from_config
from edgekit.models.options import ALLOWED, check_options

SHAPE = {"num_hidden_layers": 2, "max_position_embeddings": 256, "hidden_size": 144, "model_type": "qwen2"}


def check(**config: Any) -> None:
    check_options({**SHAPE, **config}, head_dim=64, qk_norm=False)


@pytest.mark.parametrize("key", sorted(ALLOWED))
def test_usual_values_are_allowed_and_others_refused(key: str) -> None:
    for value in (None, *ALLOWED[key]):
        check(**{key: value})
    for other in (0.37, True if False in ALLOWED[key] else "unknown"):
        with pytest.raises(UnsupportedModelError, match=f"config.json has {key} = .*, which edgekit does not compute"):
            check(**{key: other})


@pytest.mark.parametrize(
    ("key", "usual", "other"),
    [
        ("attention_multiplier", 0.125, 0.0078125),
        ("query_pre_attn_scalar", 64, 256),
        ("dim_model_base", 144, 256),
        ("rotary_dim", 64, 32),
        ("no_rope_layers", [1, 1], [1, 0]),
    ],
)
def test_values_that_follow_from_the_shape(key: str, usual: Any, other: Any) -> None:
    check(**{key: usual})
    with pytest.raises(UnsupportedModelError, match=key):
        check(**{key: other})


def test_a_family_with_norms_of_queries_may_say_so() -> None:
    check_options({**SHAPE, "qk_norm": True}, head_dim=64, qk_norm=True)
    with pytest.raises(UnsupportedModelError, match="qk_norm = True"):
        check(qk_norm=True)


@pytest.mark.parametrize(
    "config",
    [
        {"use_sliding_window": False, "sliding_window": 16, "max_window_layers": 1},
        {"sliding_window": 16, "max_window_layers": 1},
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
        {"use_sliding_window": True, "sliding_window": 256, "max_window_layers": 0},
        {"use_sliding_window": True},  # the default first layer with a window is 28
        {"layer_types": ["full_attention"] * 2, "use_sliding_window": True, "sliding_window": 16},
        {"layer_types": ["sliding_attention"] * 2, "use_sliding_window": True, "sliding_window": 256},
        {"model_type": "llama", "sliding_window": None},
        {"model_type": "llama", "sliding_window": 4096},
    ],
)
def test_windows_that_hold_the_whole_context(config: dict[str, Any]) -> None:
    check(**config)


@pytest.mark.parametrize(
    "config",
    [
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
        {"use_sliding_window": True, "max_window_layers": 0, "max_position_embeddings": 8192},
        {"layer_types": ["full_attention", "sliding_attention"], "use_sliding_window": True, "sliding_window": 16},
        {"layer_types": ["sliding_attention"] * 2},
        {"layer_types": ["linear_attention", "full_attention"]},
        {"model_type": "llama", "sliding_window": 16},
    ],
)
def test_layers_with_a_window_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match=r"sliding_window = |layer_types linear_attention"):
        check(**config)


@pytest.mark.parametrize("config", [{"layer_types": "full"}, {"sliding_window": "16"}, {"sliding_window": True}])
def test_values_of_the_wrong_type(config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"layer_types is|sliding_window is"):
        check(**config)


@pytest.mark.parametrize(
    "name", ["LlamaForSequenceClassification", "LlamaModel", "Qwen2ForRewardModel", "LlamaForCausalLMEagle3"]
)
def test_models_that_do_not_write_text(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"architectures = ..{name}"):
        spec_from_config(tiny_config("llama", architectures=[name]))
    for fine in (["LlamaForCausalLM"], [], None, ["SomebodysForCausalLM"]):
        spec_from_config(tiny_config("llama", architectures=fine))
