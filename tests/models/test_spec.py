"""Converting config.json to a ModelSpec."""

from __future__ import annotations

import math

import pytest
from tiny_checkpoint import tiny_config

from edgekit.errors import CheckpointError
from edgekit.models import spec_from_config
from edgekit.models.spec import untied


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


def test_both_spellings_of_rope_are_read() -> None:
    llama3 = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    old = spec_from_config(tiny_config("llama", rope_theta=500000.0, rope_scaling=llama3)).rope
    new = spec_from_config(tiny_config("llama", rope_parameters={**llama3, "rope_theta": 500000.0})).rope
    assert old == new
    assert old.theta == 500000.0


def test_llama3_scaling_divides_low_frequencies_only() -> None:
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config = tiny_config("llama", head_dim=128, rope_theta=500000.0)
    plain = spec_from_config(config).rope.inverse_frequencies()
    scaled = spec_from_config({**config, "rope_scaling": scaling}).rope.inverse_frequencies()
    ratios = [p / s for p, s in zip(plain, scaled, strict=True)]
    assert ratios[0] == 1.0
    assert ratios[-1] == pytest.approx(8.0)
    assert ratios == sorted(ratios)
    assert any(1.5 < r < 7.5 for r in ratios), "there is a smooth transition"


def test_linear_and_listed_factors() -> None:
    config = tiny_config("llama", head_dim=16)
    plain = spec_from_config(config).rope.inverse_frequencies()
    linear = spec_from_config({**config, "rope_scaling": {"type": "linear", "factor": 4.0}}).rope
    assert linear.inverse_frequencies() == pytest.approx([f / 4 for f in plain])
    factors = [1.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    listed = spec_from_config({**config, "rope_scaling": {"rope_type": "factors", "factors": factors}}).rope
    assert listed.inverse_frequencies() == pytest.approx([f / g for f, g in zip(plain, factors, strict=True)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 2**40}, "num_hidden_layers is"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"head_dim": None, "hidden_size": 145}, "145 is not a multiple of num_attention_heads 3"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "'llama3' lacks factor"),
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
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window = True; supported: False"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'; supported: default, linear, llama3"),
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
