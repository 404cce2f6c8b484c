"""Bytes of a model's weights and KV cache, from its shapes alone. The files of ``engines/`` add their engine's memory.

weights      every tensor at the size the exporter stores it: codes, scales, zero points, aligned
kv_cache     layers * (numbers a token adds to a layer's cache) * positions * bytes of the type
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..layout import DataLayout, Matrix
from ..models.spec import ModelSpec
from ..scheme import FLOAT_BYTES

# Bytes of a number in the KV cache. int8 also has a float32 scale for every position and head.
KV_ITEM_BYTES = {**FLOAT_BYTES, "int8": 1}
_SCALE_BYTES = 4
_PARTS = ("weights", "repacking", "kv_cache", "activations", "tokenizer", "runtime")  # of a plan's total
# A loaded tokenizer: 17.6 MB for SmolLM2's tokenizer.json of 1.5 MB, 92 MB for R1-Distill-Qwen's of 7.0 MB.
TOKENIZER_BYTES_PER_FILE_BYTE = 13
# Before the file exists: 605 bytes for each of R1-Distill-Qwen's 152064 tokens, 407 for each of SmolLM2's 49152.
TOKENIZER_BYTES_PER_TOKEN = 600


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of each group of tensors.

    ``lm_head`` is 0 when the embedding's table serves as the lm_head. ``rotary`` (the cos and sin tables) and
    ``padding`` (the gaps before aligned tensors) are in the file but are not parameters.
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
        """Mean over all parameters, with scales and zero points, without rotary tables and padding."""
        stored = self.linears + self.embedding + self.lm_head + self.norms_and_biases
        return 8 * stored / self.parameters


@dataclass(frozen=True)
class Dimensions:
    """The numbers that the KV cache and activations depend on.

    Args:
        qkv_width: Outputs of the query, key and value projections together.
        cache_width: Numbers a token adds to one layer's cache, keys and values together.
        cache_rows: Number of rows these numbers form: one for each key or value head.
        largest_linear: Weights of the largest matrix inside the layers, as the graph joins them.
        qk_norm: Whether query and key heads are normalized.
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
    qk_norm: bool = False

    @classmethod
    def of_spec(cls, spec: ModelSpec) -> Dimensions:
        """The dimensions of a model edgekit has a graph for: grouped-query attention, q/k/v and gate/up joined."""
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
            qk_norm=any(layer.q_norm is not None for layer in spec.layers),
        )


@dataclass(frozen=True)
class HeldTwice:
    """A part that is in memory twice.

    Attributes:
        what: The part, in words.
        size_bytes: Bytes of the second copy.
        when: ``loading`` or ``running``.
        is_cache: Whether the second copy is in the system's file cache, which gives it up when memory is needed. It is
            in no sum then.
    """

    what: str
    size_bytes: int
    when: str
    is_cache: bool = False

    def to_json(self) -> dict[str, str | int | bool]:
        """The part as JSON shows it."""
        return asdict(self)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of each part while the engine runs with its whole context in use.

    Attributes:
        weights: The data file without the rows of its tables that are never looked up.
        repacking: Additional copies of weights in a layout of the engine's own.
        kv_cache: Keys and values of the whole context.
        activations: Buffers of the arithmetic.
        tokenizer: The tokenizer's vocabulary and merges.
        runtime: Interpreter and libraries, including the accelerator's.
        loading: Weights in memory at the peak of loading, with the copies that exist at that time.
        weight_groups: The file's bytes by group, where the tensors are known.
        unread_embedding: Bytes of the embedding that stay in the file: rows of tokens that do not occur.
        unread_rotary: Bytes of the rotary tables that stay in the file: rows of positions beyond the context.
        held_twice: What is in memory twice.
    """

    weights: int
    repacking: int
    kv_cache: int
    activations: int
    tokenizer: int
    runtime: int
    loading: int
    weight_groups: WeightBytes | None = None
    unread_embedding: int = 0
    unread_rotary: int = 0
    held_twice: tuple[HeldTwice, ...] = ()

    @property
    def file_bytes(self) -> int:
        """The size of the data file."""
        return self.weights + self.unread_embedding + self.unread_rotary

    @property
    def total(self) -> int:
        return sum(self.to_parts().values())

    @property
    def load_peak(self) -> int:
        """The peak while the model is loaded, which can exceed the sum of the parts."""
        return self.loading + self.runtime + self.tokenizer

    @property
    def peak(self) -> int:
        """The memory that must be free: the larger of loading and running."""
        return max(self.total, self.load_peak)

    def to_parts(self) -> dict[str, int]:
        """The parts that add up to the total."""
        return {key: getattr(self, key) for key in _PARTS}

    def to_json(self) -> dict[str, int]:
        """The parts and their ``total``, in bytes."""
        return {**self.to_parts(), "total": self.total}


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


def largest_codes(layout: DataLayout) -> int:
    """Bytes of the codes of the largest matrix that is multiplied."""
    products = (*layout.inner_matrices(), layout.lm_head)
    return max((matrix.codes.size_bytes for matrix in products if matrix.codes), default=0)


def _product_bytes(matrix: Matrix) -> int:
    """A matrix without its bias."""
    return matrix.size_bytes - (matrix.bias.size_bytes if matrix.bias else 0)


def kv_cache_bytes(dimensions: Dimensions, positions: int, kv_type: str) -> int:
    """Bytes of the keys and values of this many positions, in ``float32``, ``float16`` or ``int8``."""
    width = dimensions.cache_width * KV_ITEM_BYTES[kv_type]
    scales = dimensions.cache_rows * _SCALE_BYTES if kv_type == "int8" else 0
    return dimensions.num_layers * positions * (width + scales)


def tokenizer_bytes(vocab_size: int, file_bytes: int | None = None) -> int:
    """Bytes of a loaded tokenizer, from the size of its ``tokenizer.json`` where that is known."""
    if file_bytes is not None:
        return TOKENIZER_BYTES_PER_FILE_BYTE * file_bytes
    return TOKENIZER_BYTES_PER_TOKEN * vocab_size
