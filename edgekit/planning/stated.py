"""A plan-only model that edgekit has no graph for: its memory and work from its ``config.json`` and stated size.

The only such architecture today is DeepSeek-V3: multi-head latent attention and a mixture of experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .activations import graph_activation_bytes
from .memory import Dimensions, MemoryPlan, kv_cache_bytes, tokenizer_bytes
from .planned_engine import EngineSetup, PlannedEngine
from .work import Work

# 4-bit codes with a float16 scale for every 32 weights.
STATED_BITS_PER_WEIGHT = 4.5
STATED_CHUNK = 256  # tokens of a prompt that are evaluated together


def stated_dimensions(config: Mapping[str, Any]) -> Dimensions:
    """The dimensions of a DeepSeek-V3: latent attention caches one compressed vector and one rotary key per token.

    Args:
        config: Its ``config.json``.

    Raises:
        KeyError: A key is missing.

    Source: DeepSeek-V2, https://arxiv.org/abs/2405.04434, section 2.1.
    """
    heads, value_width = config["num_attention_heads"], config["v_head_dim"]
    query_width = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    return Dimensions(
        num_layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        num_heads=heads,
        head_dim=value_width,
        qkv_width=heads * (2 * query_width + value_width),
        cache_width=config["kv_lora_rank"] + config["qk_rope_head_dim"],
        cache_rows=1,
        largest_linear=config["hidden_size"] * 2 * config["intermediate_size"],
    )


def stated_memory(dimensions: Dimensions, weights: int, engine: PlannedEngine, setup: EngineSetup) -> MemoryPlan:
    """Memory by part, with the activations of an engine that runs a graph.

    Args:
        dimensions: The model's.
        weights: Bytes of the weights.
        engine: The engine.
        setup: How it is opened.
    """
    return MemoryPlan(
        weights=weights,
        repacking=0,
        kv_cache=kv_cache_bytes(dimensions, setup.context, setup.kv_type),
        activations=graph_activation_bytes(dimensions, setup.context, "float16", STATED_CHUNK),
        tokenizer=tokenizer_bytes(dimensions.vocab_size),
        runtime=engine.runtime_bytes + (setup.accelerator_bytes or 0),
        loading=weights,
    )


def stated_work(config: Mapping[str, Any], dimensions: Dimensions, bits_per_weight: float) -> Work:
    """The work of a DeepSeek-V3: only the experts that a token is sent to are read and computed.

    Args:
        config: Its ``config.json``.
        dimensions: Its dimensions.
        bits_per_weight: Mean size of a weight.

    Raises:
        KeyError: A key is missing.

    Source: DeepSeek-V3, https://arxiv.org/abs/2412.19437, section 2.1, which states 37 B active of 671 B parameters.
    """
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    query_width = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    attention = hidden * config["q_lora_rank"] + config["q_lora_rank"] * heads * query_width
    attention += hidden * (config["kv_lora_rank"] + config["qk_rope_head_dim"])
    attention += config["kv_lora_rank"] * heads * (config["qk_nope_head_dim"] + config["v_head_dim"])
    attention += heads * config["v_head_dim"] * hidden
    layers, dense = config["num_hidden_layers"], config["first_k_dense_replace"]
    active = config["num_experts_per_tok"] + config["n_shared_experts"]
    expert = 3 * hidden * config["moe_intermediate_size"]
    routed = active * expert + hidden * config["n_routed_experts"]
    body = layers * attention + dense * 3 * hidden * config["intermediate_size"] + (layers - dense) * routed
    head = dimensions.vocab_size * hidden
    return Work(
        token_bytes=round((body + head) * bits_per_weight / 8),
        layers=layers,
        prompt_multiply_adds=body,
        last_multiply_adds=head,
        attention_multiply_adds=layers * heads * (query_width + config["v_head_dim"]),
        format="4bit",
    )
