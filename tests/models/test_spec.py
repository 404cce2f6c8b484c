"""Converting config.json to a ModelSpec."""

from __future__ import annotations

import math

import pytest
from tiny_checkpoint import tiny_config

from edgekit.errors import CheckpointError
from edgekit.models import spec_from_config
from edgekit.models.spec import TensorRef, untied


@pytest.mark.parametrize("tied", [True, False])
def test_tensors_are_named_once(tied: bool) -> None:
    spec = spec_from_config(tiny_config("qwen2", tie_word_embeddings=tied))
    names = [t.name for t in spec.tensors()]
    assert len(names) == len(set(names)) == 3 + 2 * 12 - tied
    assert len({t.gguf for t in spec.tensors()}) == len(names)
    assert ("lm_head.weight" in names) is not tied
    assert spec.parameters == sum(math.prod(t.shape) for t in spec.tensors())


def test_biases_follow_family_and_config() -> None:
    def biased(family_name: str, **changes: object) -> set[str]:
        layer = spec_from_config(tiny_config(family_name, **changes)).layers[0]
        return {linear.role for linear in layer.linears if linear.bias is not None}

    assert biased("llama") == set()
    assert biased("llama", attention_bias=True) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert biased("llama", mlp_bias=True) == {"gate_proj", "up_proj", "down_proj"}
    assert biased("qwen2") == {"q_proj", "k_proj", "v_proj"}
    assert biased("qwen3") == set()
    assert biased("qwen3", attention_bias=True) == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_only_qwen3_has_norms_of_query_and_key_heads() -> None:
    for family in ("llama", "qwen2"):
        layer = spec_from_config(tiny_config(family)).layers[0]
        assert (layer.q_norm, layer.k_norm) == (None, None)
        assert layer.norms == (layer.input_norm, layer.post_attention_norm)
    spec = spec_from_config(tiny_config("qwen3"))
    layer = spec.layers[1]
    assert layer.q_norm == TensorRef("model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight", (64,))
    assert layer.k_norm == TensorRef("model.layers.1.self_attn.k_norm.weight", "blk.1.attn_k_norm.weight", (64,))
    assert layer.norms == (layer.input_norm, layer.q_norm, layer.k_norm, layer.post_attention_norm)
    assert set(layer.norms) < set(spec.tensors())


def test_the_size_of_a_head_that_the_config_does_not_say() -> None:
    def head_dim(family: str, **changes: object) -> int:
        config = tiny_config(family, **changes)
        return spec_from_config({k: v for k, v in config.items() if k != "head_dim"}).head_dim

    assert head_dim("llama", num_attention_heads=9, num_key_value_heads=3) == 16
    assert head_dim("qwen3", num_attention_heads=9, num_key_value_heads=3) == 128
    assert head_dim("qwen3", hidden_size=145) == 128


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 2**40}, "num_hidden_layers is"),
        ({"hidden_size": True}, "hidden_size is true"),
        ({"head_dim": None, "hidden_size": 145}, "145 is not a multiple of num_attention_heads 3"),
        ({"model_type": None}, "lacks model_type"),
    ],
)
def test_bad_configs(changes: dict[str, object], words: str) -> None:
    config = {k: v for k, v in tiny_config("llama", **changes).items() if v is not None}
    with pytest.raises(CheckpointError, match=words):
        spec_from_config(config)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu'; supported: 'silu'"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1},
            "sliding_window = 32 and",
        ),
        (
            "qwen3",
            {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1},
            "sliding_window = 32 and",
        ),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 3}, "4 is not a multiple of num_key_value_heads 3"),
    ],
)
def test_unsupported_options(family: str, changes: dict[str, object], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        spec_from_config(tiny_config(family, **changes))


def test_an_untied_model_has_the_same_number_of_parameters() -> None:
    tied = spec_from_config(tiny_config("llama", tie_word_embeddings=True))
    copied = untied(tied)
    assert (copied.tied_embeddings, copied.copied_head) == (False, True)
    assert copied.lm_head.weight.shape == tied.embedding.shape
    assert copied.lm_head.weight.name == "lm_head.weight"
    assert copied.parameters == tied.parameters
    assert "lm_head.weight" in [t.name for t in copied.tensors()]
    separate = spec_from_config(tiny_config("llama", tie_word_embeddings=False))
    assert untied(separate) is separate


def test_interleaved_heads_are_those_of_q_and_k() -> None:
    spec = spec_from_config(tiny_config("llama"))
    interleaved = {linear.role: linear.weight.interleaved_heads for linear in spec.layers[0].linears}
    assert interleaved.pop("q_proj") == spec.num_heads
    assert interleaved.pop("k_proj") == spec.num_kv_heads
    assert set(interleaved.values()) == {0}
    qwen = spec_from_config(tiny_config("qwen2"))
    assert all(linear.weight.interleaved_heads == 0 for linear in qwen.layers[0].linears)


def test_the_kv_width() -> None:
    spec = spec_from_config(tiny_config("llama"))
    assert spec.kv_width == spec.num_kv_heads * spec.head_dim
