"""What a token takes at least, whatever runs it: bytes read to generate one, multiply-adds to read one of a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..layout import DataLayout, Matrix
from ..models.spec import ModelSpec
from ..scheme import QuantizationConfig
from .memory import Dimensions


@dataclass(frozen=True)
class Work:
    """Of one model in one format.

    Attributes:
        token_bytes: Weights read to generate a token: every matrix of the layers and the lm_head, one row of the
            embedding. Not the KV cache. As ``native/src/work.cpp`` counts, but for how norms and biases are kept.
        layers: Decoder layers, each of which has a fixed cost.
        prompt_multiply_adds: With weights, for a token of the prompt. Equals ``native/src/work.cpp``.
        last_multiply_adds: With weights, once for a prompt: the last layer's feed-forward network and the lm_head,
            which only the last token needs.
        attention_multiply_adds: For a token and each position it attends to.
        format: ``4bit``, ``8bit`` or ``float16``: of the matrices inside the layers.
    """

    token_bytes: int
    layers: int
    prompt_multiply_adds: int
    last_multiply_adds: int
    attention_multiply_adds: int
    format: str

    def multiply_adds(self, tokens: int) -> int:
        """Of a prompt with weights."""
        return tokens * self.prompt_multiply_adds + self.last_multiply_adds

    def attention(self, tokens: int) -> int:
        """Multiply-adds of a prompt's attention: each token with all before it."""
        return tokens * (tokens + 1) // 2 * self.attention_multiply_adds


def work_of(spec: ModelSpec, layout: DataLayout, quantization: QuantizationConfig) -> Work:
    """The work of a model edgekit has a graph for.

    Args:
        spec: The model.
        layout: Its data file, with as many rotary rows as one likes.
        quantization: Its formats.
    """
    inner = tuple(layout.inner_matrices())
    norms = sum(v.slot.size_bytes for v in layout.vectors())
    embedding_row = _stored(layout.embedding) // layout.embedding.out_features
    linear, last = quantization.linear, layout.layers[-1]
    last_mlp = _weights(last.gate_up_proj) + _weights(last.down_proj)
    return Work(
        token_bytes=sum(map(_stored, (*inner, layout.lm_head))) + norms + embedding_row,
        layers=spec.num_layers,
        prompt_multiply_adds=sum(map(_weights, inner)) - last_mlp,
        last_multiply_adds=last_mlp + spec.vocab_size * spec.hidden_size,
        attention_multiply_adds=2 * spec.num_layers * spec.num_heads * spec.head_dim,
        format=f"{linear.bits}bit" if linear else "float16",
    )


def _stored(matrix: Matrix) -> int:
    return sum(slot.size_bytes for slot in matrix.slots)


def _weights(matrix: Matrix) -> int:
    return matrix.out_features * matrix.in_features


def stated_work(config: Mapping[str, Any], dimensions: Dimensions, bits_per_weight: float) -> Work:
    """The work of a DeepSeek-V3: of its experts only those that a token is sent to are read and computed.

    Args:
        config: Its ``config.json``.
        dimensions: Of it.
        bits_per_weight: As stated.

    Raises:
        KeyError: A key is missing.

    Source: DeepSeek-V3, https://arxiv.org/abs/2412.19437, section 2.1; it says 37 B of 671 B.
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
