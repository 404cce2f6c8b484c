"""Keys of ``config.json`` that change what a model computes: what the common decoder does not compute is refused.

The keys are those that transformers' and other projects' decoders read; most belong to families that edgekit has no
file for, and appear in converted or edited configurations. A missing or null key is always allowed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError, UnsupportedModelError

_HINT = "remove the key from config.json if the model's own code does not read it"
# Key -> the values with which the common decoder computes the model.
ALLOWED: dict[str, tuple[Any, ...]] = {
    "hidden_activation": ("silu", "swish"),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_layers": ([],),
    "is_causal": (True,),
    "use_bidirectional_attention": (False,),
    # logits and scores
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "logit_scaling": (1,),
    "final_logit_softcapping": (0,),
    "attn_logit_softcapping": (0,),
    "clip_qkv": (0,),
    "attention_chunk_size": (0,),
    "attn_temperature_tuning": (False, 0),
    # scaled embeddings and residuals: Granite, MiniCPM, Gemma, maximal update parametrization
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "lm_head_multiplier": (1,),
    "scale_emb": (1,),
    "scale_depth": (),
    "mup_denominator": (),
    "mup_scale_factor": (1,),
    "swiglu_limit": (),
    # norms and positions
    "qk_norm": (False,),
    "use_qk_norm": (False,),
    "qk_layernorm": (False,),
    "alibi": (False,),
    "use_alibi": (False,),
    "rotary_pct": (1,),
    "rope_pct": (1,),
    "rope_percentage": (1,),
    "no_rope_layer_interval": (0,),
    "parallel_attn": (False,),
    "use_parallel_residual": (False,),
    # experts and compressed attention
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "n_routed_experts": (0, 1),
    "kv_lora_rank": (0,),
    "q_lora_rank": (0,),
}
_FULL = "full_attention"
# transformers' defaults of Qwen2 and Qwen3.
_UNUSED_BY_DEFAULT = ("qwen2", "qwen3")
_DEFAULT_WINDOW, _DEFAULT_FIRST = 4096, 28
_WRITES_TEXT = ("ForCausalLM", "LMHeadModel")


def check_options(config: Mapping[str, Any], head_dim: int, qk_norm: bool) -> None:
    """Check that the common decoder computes the model.

    Args:
        config: The content of ``config.json``.
        head_dim: Size of a head.
        qk_norm: Whether the family has norms of queries and keys.

    Raises:
        CheckpointError: A value has the wrong type.
        UnsupportedModelError: A key has a value that changes what the model computes.
    """
    allowed = {**ALLOWED, **_of_shape(config, head_dim)}
    for key, values in allowed.items():
        found = config.get(key)
        if found is None or (qk_norm and "qk_" in key) or any(_same(found, value) for value in values):
            continue
        supported = ", ".join(f"{value:.6g}" if isinstance(value, float) else repr(value) for value in values)
        raise UnsupportedModelError(
            f"config.json has {key} = {found!r}, which edgekit does not compute; supported: {supported or 'null'}",
            hint=_HINT,
        )
    _check_architecture(config)
    _check_window(config)


def _of_shape(config: Mapping[str, Any], head_dim: int) -> dict[str, tuple[Any, ...]]:
    """The keys whose usual value follows from the model's shape."""
    roped = config.get("no_rope_layers")
    return {
        "attention_multiplier": (head_dim**-0.5,),  # Granite: the scale of the scores
        "query_pre_attn_scalar": (head_dim,),  # Gemma 2: the scores are divided by its root
        "dim_model_base": (config.get("hidden_size"),),  # MiniCPM: the logits are divided by hidden_size / this
        "rotary_dim": (head_dim,),
        "v_head_dim": (head_dim,),
        "no_rope_layers": ([1] * len(roped) if isinstance(roped, list) else [],),  # SmolLM3: 0 where there is none
        "mlp_only_layers": ([],),
    }


def _same(found: Any, value: Any) -> bool:
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (found, value))
    if numbers:
        return math.isclose(found, value, rel_tol=1e-6)
    return type(found) is type(value) and bool(found == value)


def _check_architecture(config: Mapping[str, Any]) -> None:
    """Refuse classifiers, embedding models and draft heads, which have the model_type of the model they come from."""
    names = config.get("architectures")
    first = names[0] if isinstance(names, list) and names else None
    if isinstance(first, str) and not first.endswith(_WRITES_TEXT):
        raise UnsupportedModelError(
            f"config.json says architectures = [{first!r}]; edgekit supports models that write text, such as "
            "LlamaForCausalLM",
            hint="classifiers, embedding models, reward models and draft models (EAGLE) are not supported",
        )


def _check_window(config: Mapping[str, Any]) -> None:
    """Refuse layers that see only the last positions, unless the window holds the whole context."""
    kinds, context = config.get("layer_types"), config.get("max_position_embeddings")
    if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
        raise CheckpointError(f"config.json: layer_types is {kinds!r}; it must be a list of names")
    others = sorted({kind for kind in kinds or () if kind != _FULL})
    if others not in ([], ["sliding_attention"]):
        raise UnsupportedModelError(f"config.json has layer_types {', '.join(others)}; supported: {_FULL}")
    used = config.get("use_sliding_window", False if config.get("model_type") in _UNUSED_BY_DEFAULT else None)
    window = config.get("sliding_window", _DEFAULT_WINDOW if used else None)
    if window is not None and (not isinstance(window, int) or isinstance(window, bool)):
        raise CheckpointError(f"config.json: sliding_window is {window!r}; it must be a whole number or null")
    first = config.get("max_window_layers", _DEFAULT_FIRST)  # Qwen2: the layers from this one on have a window
    layers = config.get("num_hidden_layers")
    if kinds is None and isinstance(first, int) and isinstance(layers, int) and used:
        full = first >= layers
    else:
        full = not others if kinds is not None else window is None or used is False
    if not full and not (window is not None and isinstance(context, int) and window >= context):
        raise UnsupportedModelError(
            f"config.json has sliding_window = {window!r} and use_sliding_window = {used!r}; supported: layers that "
            f"attend to the whole context of {context} tokens",
            hint="set use_sliding_window to false if the model was not trained with a window",
        )
