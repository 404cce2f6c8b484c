"""GGUF metadata translated to the keys of config.json."""

import numpy as np
import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, UnsupportedModelError


def test_metadata_is_translated(tiny_gguf):
    with open_checkpoint(tiny_gguf) as checkpoint:
        assert checkpoint.format == "gguf"
        assert checkpoint.config == {
            "model_type": "llama",
            "num_hidden_layers": 1,
            "max_position_embeddings": 128,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "vocab_size": 262,
            "tie_word_embeddings": True,
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": 257,
            "eos_token_id": 258,
        }
        assert checkpoint.tensors["blk.0.attn_q.weight"].shape == (32, 32)


def test_untied_embeddings_biases_and_head_sizes(tmp_path, write_gguf, tiny_metadata, tiny_tensors):
    tensors = {
        **tiny_tensors,
        "output.weight": ("F32", (262, 32), bytes(4 * 262 * 32)),
        "blk.0.attn_q.bias": tiny_tensors["output_norm.weight"],
    }
    metadata = {**tiny_metadata, "llama.attention.key_length": 16, "llama.rope.dimension_count": 16}
    del metadata["llama.attention.head_count_kv"]
    config = open_checkpoint(write_gguf(tmp_path / "x.gguf", metadata, tensors)).config
    assert config["tie_word_embeddings"] is False
    assert config["attention_bias"] is True
    assert config["head_dim"] == 16
    assert config["num_key_value_heads"] == 4


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4}),
        ({"llama.rope.scale_linear": 2.0}, {"rope_type": "linear", "factor": 2}),
        ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 8.0}, {"rope_type": "yarn", "factor": 8}),
        ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, None),
        ({"llama.rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4}),  # the type that a missing one means
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 0.0}, None),
        ({"llama.rope.scaling.original_context_length": 64}, None),
        (
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 4.0,
                "llama.rope.scaling.original_context_length": 32,
                "llama.rope.scaling.attn_factor": 0.8782488562869419,
                "llama.rope.scaling.yarn_beta_fast": 16.0,
                "llama.rope.scaling.yarn_beta_slow": 2.0,
                "llama.rope.scaling.yarn_ext_factor": -1.0,
            },
            {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32,
                "attn_factor": 0.8782489,
                "beta_fast": 16.0,
                "beta_slow": 2.0,
            },
        ),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 1.0}, None),
    ],
)
def test_rope_scaling(tmp_path, write_gguf, tiny_metadata, tiny_tensors, keys, expected):
    config = open_checkpoint(write_gguf(tmp_path / "x.gguf", {**tiny_metadata, **keys}, tiny_tensors)).config
    assert config.get("rope_scaling") == expected


def test_rope_factors_are_configuration(tmp_path, write_gguf, tiny_metadata, tiny_tensors):
    factors = np.array([1, 1.1, 4, 8], "<f4")
    tensors = {**tiny_tensors, "rope_freqs.weight": ("F32", (4,), factors.tobytes())}
    path = write_gguf(tmp_path / "x.gguf", tiny_metadata, tensors)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config["rope_scaling"] == {"rope_type": "factors", "factors": [1.0, 1.1, 4.0, 8.0]}
        assert "rope_freqs.weight" not in checkpoint.tensors
    both = {**tiny_metadata, "llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    with pytest.raises(UnsupportedModelError, match="both rope scaling 'linear' and rope_freqs"):
        open_checkpoint(write_gguf(path, both, tensors))


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"llama.block_count": None}, CheckpointError, r"lacks the metadata key llama\.block_count"),
        ({"general.architecture": None}, CheckpointError, r"lacks the metadata key general\.architecture"),
        ({"llama.expert_count": 8}, UnsupportedModelError, "has 8 experts"),
        ({"llama.rope.dimension_count": 4}, UnsupportedModelError, "dimension_count is 4, but a head has 8"),
        ({"llama.attention.value_length": 4}, UnsupportedModelError, "value_length is 4, but keys have 8"),
        ({"llama.attention.head_count": [4, 8]}, UnsupportedModelError, "is a list, so its layers differ"),
        (
            {
                "llama.rope.scaling.type": "linear",
                "llama.rope.scaling.factor": 2.0,
                "llama.rope.scaling.attn_factor": 0.5,
            },
            UnsupportedModelError,
            "attn_factor is 0.5 with rope scaling 'linear'; supported: with yarn",
        ),
        (
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 2.0,
                "llama.rope.scaling.yarn_log_multiplier": 0.1,
            },
            UnsupportedModelError,
            r"rope\.scaling\.yarn_log_multiplier is 0.1; supported: 0",
        ),
        ({"llama.rope.freq_base": "big"}, CheckpointError, "freq_base is 'big'; it must be a number"),
        ({"llama.attention.head_count": 64}, CheckpointError, "embedding_length is 32, too little for 64 heads"),
        ({"llama.attention.head_count": 0}, CheckpointError, "num_attention_heads is 0; it must be a whole number"),
        (
            {"llama.attention.key_length": 0, "llama.attention.scale": 0.5},
            CheckpointError,
            "head_dim is 0; it must be a whole number",
        ),
    ],
)
def test_unsupported_and_invalid_metadata(tmp_path, write_gguf, tiny_metadata, tiny_tensors, keys, error, message):
    metadata = {k: v for k, v in {**tiny_metadata, **keys}.items() if v is not None}
    with pytest.raises(error, match=message):
        open_checkpoint(write_gguf(tmp_path / "x.gguf", metadata, tiny_tensors))
