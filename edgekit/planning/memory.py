"""How many bytes a model's weights and its KV cache take, from its shapes alone; ``engine_memory.py`` adds the rest.

    weights      every tensor at the size the exporter stores it: codes, scales, zero points, aligned
    kv_cache     layers * (numbers a token adds to a layer's cache) * positions * bytes of its type

Sizes are bytes throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..layout import DataLayout, Matrix, plan_layout
from ..models.spec import ModelSpec
from ..scheme import FLOAT_BYTES, QuantizationConfig

# For models edgekit has no graph for: 4-bit codes with a float16 scale for every 32 weights.
STATED_BITS_PER_WEIGHT = 4.5

# What keys and values can be kept in. int8 has a float32 scale for every position and head beside it.
KV_ITEM_BYTES = {**FLOAT_BYTES, "int8": 1}
_SCALE_BYTES = 4
# The native engine's cache is a whole number of blocks of so many positions (native/kernels/kernels.h, kKvBlock).
NATIVE_KV_BLOCK = 64


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of each group of tensors.

    ``lm_head`` is 0 when it is the embedding's table; ``rotary`` are the cos and sin tables and ``padding`` the gaps
    before aligned tensors: both are in the file, but are no parameters.
    """

    parameters: int
    linears: int
    embedding: int
    lm_head: int
    norms_and_biases: int
    rotary: int
    padding: int

    @property
    def total(self) -> int:
        return self.linears + self.embedding + self.lm_head + self.norms_and_biases + self.rotary + self.padding

    @property
    def bits_per_weight(self) -> float:
        """Mean over all parameters, scales and zero points included; rotary tables and padding are not."""
        stored = self.linears + self.embedding + self.lm_head + self.norms_and_biases
        return 8 * stored / self.parameters


@dataclass(frozen=True)
class Dimensions:
    """The numbers that cache and activations depend on.

    Args:
        qkv_width: Outputs of the query, key and value projections together.
        cache_width: Numbers a token adds to one layer's cache, keys and values together.
        cache_rows: Rows those numbers stand in: one for each key or value head.
        largest_linear: Weights of the largest matrix inside the layers as the graph joins them.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    num_heads: int
    head_dim: int
    qkv_width: int
    cache_width: int
    cache_rows: int
    largest_linear: int

    @classmethod
    def of_spec(cls, spec: ModelSpec) -> Dimensions:
        """Of a model edgekit has a graph for: grouped-query attention, q/k/v and gate/up joined."""
        qkv_width = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
        return cls(
            num_layers=spec.num_layers,
            hidden_size=spec.hidden_size,
            intermediate_size=spec.intermediate_size,
            vocab_size=spec.vocab_size,
            num_heads=spec.num_heads,
            head_dim=spec.head_dim,
            qkv_width=qkv_width,
            cache_width=2 * spec.kv_width,
            cache_rows=2 * spec.num_kv_heads,
            largest_linear=spec.hidden_size * max(2 * spec.intermediate_size, qkv_width),
        )

    @classmethod
    def of_latent_attention(cls, config: Mapping[str, Any]) -> Dimensions:
        """Of a DeepSeek-V3: multi-head latent attention caches one compressed vector and one rotary key a token.

        Args:
            config: Its ``config.json``.

        Raises:
            KeyError: A key is missing.

        Source: DeepSeek-V2, https://arxiv.org/abs/2405.04434, section 2.1.
        """
        heads, value_width = config["num_attention_heads"], config["v_head_dim"]
        query_width = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
        return cls(
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


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of each part while the engine runs with its whole context in use.

    Attributes:
        weights: The data file, but for rows of its tables that are never looked up.
        repacking: What an engine keeps of the weights in a layout of its own, beyond that.
        kv_cache: Keys and values of the whole context.
        activations: Buffers of the arithmetic.
        tokenizer: Its vocabulary and merges.
        runtime: Interpreter and libraries, the accelerator's too.
        load_peak: The most there is while the model is loaded, which can be more than the sum of the parts.
        weight_groups: Breaks the file down where the tensors are known.
        unread_embedding: Of the embedding, what stays in the file: its rows of tokens that do not occur.
        unread_rotary: Of the rotary tables, those of positions beyond the context.
    """

    weights: int
    repacking: int
    kv_cache: int
    activations: int
    tokenizer: int
    runtime: int
    load_peak: int
    weight_groups: WeightBytes | None = None
    unread_embedding: int = 0
    unread_rotary: int = 0

    @property
    def file_bytes(self) -> int:
        """The size of the data file."""
        return self.weights + self.unread_embedding + self.unread_rotary

    @property
    def total(self) -> int:
        return sum(self.to_parts().values())

    @property
    def peak(self) -> int:
        """What must be free: the larger of loading and running."""
        return max(self.total, self.load_peak)

    def to_parts(self) -> dict[str, int]:
        """The parts that stand beside one another."""
        parts = asdict(self)
        for key in ("weight_groups", "load_peak", "unread_embedding", "unread_rotary"):
            del parts[key]
        return parts

    def to_json(self) -> dict[str, int]:
        """The parts and their ``total``, in bytes."""
        return {**self.to_parts(), "total": self.total}


def weight_bytes(
    spec: ModelSpec, quantization: QuantizationConfig, activation_type: str, max_context: int
) -> WeightBytes:
    """Size of ``model.onnx.data``, to the byte: the sum over the very layout the exporter writes.

    Args:
        spec: The model.
        quantization: Formats; a tied model stores one table when embedding and lm_head have the same.
        activation_type: ``float32`` or ``float16``: type of scales, norms, biases and rotary tables.
        max_context: Positions the rotary tables hold.
    """
    return weight_groups(spec, plan_layout(spec, quantization, activation_type, max_context))


def weight_groups(spec: ModelSpec, layout: DataLayout) -> WeightBytes:
    """The size of each group of tensors in a layout."""
    biases = sum(m.bias.size_bytes for m in layout.matrices() if m.bias is not None)
    groups = {
        "linears": sum(_product_bytes(m) for m in layout.inner_matrices()),
        "embedding": _product_bytes(layout.embedding),
        "lm_head": 0 if layout.shares_embedding else _product_bytes(layout.lm_head),
        "norms_and_biases": biases + sum(v.slot.size_bytes for v in layout.vectors()),
        "rotary": layout.rotary_cos.size_bytes + layout.rotary_sin.size_bytes,
    }
    return WeightBytes(parameters=spec.parameters, **groups, padding=layout.size_bytes - sum(groups.values()))


def _product_bytes(matrix: Matrix) -> int:
    """A matrix without its bias."""
    return sum(slot.size_bytes for slot in matrix.slots if slot is not matrix.bias)


def kv_cache_bytes(dimensions: Dimensions, positions: int, kv_type: str) -> int:
    """Bytes of the keys and values of so many positions, kept in ``float32``, ``float16`` or ``int8``."""
    width = dimensions.cache_width * KV_ITEM_BYTES[kv_type]
    scales = dimensions.cache_rows * _SCALE_BYTES if kv_type == "int8" else 0
    return dimensions.num_layers * positions * (width + scales)
