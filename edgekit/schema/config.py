"""``config.json`` of a model, as transformers writes it; GGUF metadata and recipes are checked under the same keys.

Only keys that edgekit reads are here. Where a value is a limit of edgekit's and not of the format, the comment says
what it is based on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError
from .fields import Field, Items, Number, Table, Text, Truth, Whole, check_table

MAX_LAYERS = 1000  # Llama 3.1 405B has 126
_WIDTH = Whole(1, 1 << 20)  # Llama 3.1 405B: hidden_size 16384, intermediate_size 53248
_HEADS = Whole(1, 4096)  # Llama 3.1 405B: 128
_FACTOR = Number(0, 10_000, above=True)
_MAGNITUDE = Number(0, 1000)  # 0 means the default
# theta: https://huggingface.co/gradientai/Llama-3-8B-Instruct-Gradient-4194k has 4.5e10.
_THETA = Number(0, 1e15, above=True)
_SHARE = Number(0, 1, above=True)
_NAME = Text(longest=1000)

ROPE: dict[str, Field] = {
    "rope_type": _NAME,
    "type": _NAME,
    "rope_theta": _THETA,
    "factor": _FACTOR,
    "low_freq_factor": _FACTOR,
    "high_freq_factor": _FACTOR,
    "original_max_position_embeddings": Whole(),
    "beta_fast": _MAGNITUDE,
    "beta_slow": _MAGNITUDE,
    "mscale": _MAGNITUDE,
    "mscale_all_dim": _MAGNITUDE,
    "attention_factor": _FACTOR,
    "attn_factor": _MAGNITUDE,
    "extrapolation_factor": _MAGNITUDE,
    "truncate": Truth(),
    "partial_rotary_factor": _SHARE,
    "factors": Items(Number(0, 1e9, above=True), most=4096),
}

CONFIG: dict[str, Field] = {
    "model_type": _NAME,
    "architectures": Items(_NAME, most=100),
    "_name_or_path": Text(longest=10_000),
    "vocab_size": Whole(1, 1 << 24),  # Gemma 3: 262208
    "hidden_size": _WIDTH,
    "intermediate_size": _WIDTH,
    "num_hidden_layers": Whole(1, MAX_LAYERS),
    "num_attention_heads": _HEADS,
    "num_key_value_heads": _HEADS,
    "head_dim": Whole(2, 4096),  # Gemma: 256
    "max_position_embeddings": Whole(),
    "rms_norm_eps": Number(1e-12, 0.1),  # published: 1e-8 to 1e-5
    "rope_theta": _THETA,
    "partial_rotary_factor": _SHARE,
    "original_max_position_embeddings": Whole(),
    "hidden_act": _NAME,
    "tie_word_embeddings": Truth(),
    "attention_bias": Truth(),
    "mlp_bias": Truth(),
    "layer_types": Items(_NAME, most=MAX_LAYERS),
    "sliding_window": Whole(0),
    "max_window_layers": Whole(0),
    "use_sliding_window": Truth(),
    "quantization_config": Table({}),
    # Of families that can be planned only: compressed attention and experts.
    **dict.fromkeys(
        (
            "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_routed_experts",
            "num_experts_per_tok", "n_shared_experts", "moe_intermediate_size", "first_k_dense_replace",
        ),
        Whole(0, 1 << 20),
    ),
}  # fmt: skip
_HINT = "compare config.json with the one that the model was published with"


def check_config(config: Mapping[str, Any], what: str = "config.json") -> None:
    """Check the values of a ``config.json``.

    Args:
        config: The file's content, or the same keys from elsewhere.
        what: The file, for messages.

    Raises:
        CheckpointError: A value has the wrong type or is out of range.
    """
    check_table(config, CONFIG, what, CheckpointError, _HINT)


def check_rope(table: Mapping[str, Any], what: str = "config.json") -> None:
    """Check the values of ``rope_scaling`` or ``rope_parameters``.

    Raises:
        CheckpointError: A value has the wrong type or is out of range.
    """
    check_table(table, ROPE, what, CheckpointError, _HINT)
