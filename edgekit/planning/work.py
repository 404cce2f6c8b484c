"""The least work of a token, whatever runs it: bytes read to generate one, multiply-adds to read one of a prompt."""

from __future__ import annotations

from dataclasses import dataclass

from ..layout import DataLayout
from ..models.spec import ModelSpec
from ..scheme import QuantizationConfig


@dataclass(frozen=True)
class Work:
    """The work of one model in one format.

    Attributes:
        token_bytes: Weights read to generate a token: every matrix of the layers and the lm_head, one row of the
            embedding; the KV cache is not included. ``native/src/work.cpp`` counts the same, except for how norms and
            biases are stored.
        layers: Number of decoder layers, each of which has a fixed cost.
        prompt_multiply_adds: Multiply-adds with weights for each token of the prompt, as ``native/src/work.cpp``.
        last_multiply_adds: Multiply-adds with weights once per prompt: the last layer's feed-forward network and the
            lm_head, which only the last token needs.
        attention_multiply_adds: Multiply-adds of a token's attention for each position it attends to.
        format: Format of the matrices inside the layers: ``4bit``, ``8bit`` or ``float16``.
    """

    token_bytes: int
    layers: int
    prompt_multiply_adds: int
    last_multiply_adds: int
    attention_multiply_adds: int
    format: str

    def multiply_adds(self, tokens: int) -> int:
        """Multiply-adds with weights of a prompt."""
        return tokens * self.prompt_multiply_adds + self.last_multiply_adds

    def attention(self, tokens: int) -> int:
        """Multiply-adds of a prompt's attention: each token with itself and all before it."""
        return tokens * (tokens + 1) // 2 * self.attention_multiply_adds


def work_of(spec: ModelSpec, layout: DataLayout, quantization: QuantizationConfig) -> Work:
    """The work of a model edgekit has a graph for.

    Args:
        spec: The model.
        layout: Its data file; the number of rotary rows does not matter.
        quantization: Its formats.
    """
    inner = tuple(layout.inner_matrices())
    norms = sum(v.slot.size_bytes for v in layout.vectors())
    embedding_row = layout.embedding.size_bytes // layout.embedding.out_features
    linear, last = quantization.linear, layout.layers[-1]
    last_mlp = last.gate_up_proj.weights + last.down_proj.weights
    return Work(
        token_bytes=sum(m.size_bytes for m in (*inner, layout.lm_head)) + norms + embedding_row,
        layers=spec.num_layers,
        prompt_multiply_adds=sum(m.weights for m in inner) - last_mlp,
        last_multiply_adds=last_mlp + spec.vocab_size * spec.hidden_size,
        attention_multiply_adds=2 * spec.num_layers * spec.num_heads * spec.head_dim,
        format=f"{linear.bits}bit" if linear else "float16",
    )
