"""How many bytes a model takes on a device, part by part, from its shapes alone.

    weights      every tensor at the size the exporter stores it: codes, scales, zero points, aligned
    repacking    what onnxruntime's CPU kernels keep beside the weights, see :func:`repacking_bytes`
    kv_cache     layers * (numbers a token adds to a layer's cache) * context * activation bytes
    activations  the buffers of one prefill chunk in onnxruntime, see :func:`activation_bytes`
    runtime      Python, onnxruntime and tokenizer, plus what the accelerator's libraries take

Weights count once: onnxruntime's CPU kernels copy the codes into a layout of their own, one matrix after the other, and
each time let go of the file's pages. Sizes are bytes throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..layout import Matrix, plan_layout
from ..models.spec import ModelSpec
from ..scheme import FLOAT_BYTES, QuantizationConfig

# Tokens of a prompt the onnxruntime engine works on at once.
PREFILL_CHUNK = 256

# Resident memory (Rss of /proc/self/smaps_rollup) of a CPython 3.11 process on Linux, x86-64, once it has imported
# numpy 2.4, onnxruntime 1.32, tokenizers 0.23, click and jinja2: 59 MB; and has loaded a tokenizer and encoded a
# sentence: 91 MB with SmolLM2's 49152 tokens, 163 MB with R1-Distill-Qwen-7B's 152064. The rest is a margin for a
# session's graph and threads.
RUNTIME_BYTES = 200_000_000

# For models edgekit has no graph for: 4-bit codes with a float16 scale for every 32 weights.
STATED_BITS_PER_WEIGHT = 4.5

# Bytes of a logit when it is sampled from, of an attention probability and of a repacked scale: always float32.
_FLOAT32_BYTES = 4


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
        largest_linear: Weights of the largest matrix inside the layers as the graph joins them.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    num_heads: int
    qkv_width: int
    cache_width: int
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
            qkv_width=qkv_width,
            cache_width=2 * spec.kv_width,
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
            qkv_width=heads * (2 * query_width + value_width),
            cache_width=config["kv_lora_rank"] + config["qk_rope_head_dim"],
            largest_linear=config["hidden_size"] * 2 * config["intermediate_size"],
        )


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of each part; ``weight_groups`` breaks ``weights`` down where the tensors are known."""

    weights: int
    repacking: int
    kv_cache: int
    activations: int
    runtime: int
    weight_groups: WeightBytes | None = None

    @property
    def total(self) -> int:
        return self.weights + self.repacking + self.kv_cache + self.activations + self.runtime

    def to_json(self) -> dict[str, int]:
        """The parts and their ``total``, in bytes."""
        parts = asdict(self)
        del parts["weight_groups"]
        return {**parts, "total": self.total}


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
    layout = plan_layout(spec, quantization, activation_type, max_context)
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


def repacking_bytes(spec: ModelSpec, quantization: QuantizationConfig, activation_type: str) -> int:
    """Bytes onnxruntime's CPU kernel for MatMulNBits with int8 activations keeps beside codes and scales.

    For every block it copies the scale and adds the block's sum, both float32, and does not let go of the scales it was
    given: twice the scales more than the file holds. Measured with onnxruntime 1.32 on x86-64 (AVX-512) on 20 matrices
    of 4096 x 4096, resident memory after loading beside the file's size: 4 bits block 32: 307 and 210 MB, block 64: 246
    and 191, block 128: 211 and 178; 8 bits block 64: 411 and 357; 13 MB of each is the session. Arm's kernels were not
    measured and are taken to keep as much. CUDA's (float16 graphs) have no such copy.
    """
    if activation_type == "float16":
        return 0
    layout = plan_layout(spec, quantization, activation_type, 1)
    products = (*layout.inner_matrices(), layout.lm_head)
    scales = sum(math.prod(m.scales.shape) for m in products if m.scales is not None)
    return 2 * scales * _FLOAT32_BYTES


def kv_cache_bytes(dimensions: Dimensions, context: int, activation_type: str) -> int:
    """Bytes of the keys and values of ``context`` tokens, allocated at once."""
    return dimensions.num_layers * dimensions.cache_width * context * FLOAT_BYTES[activation_type]


def activation_bytes(dimensions: Dimensions, context: int, activation_type: str, chunk: int = PREFILL_CHUNK) -> int:
    """Bytes of the buffers onnxruntime needs for a chunk of the prompt; decoding needs less.

    With C tokens in the chunk and a bytes in a number, the sum (an upper bound: not all live at the same time) of

        attention    heads * C * context * 4     GroupQueryAttention's probabilities, float32, over the whole cache
        projections  2 * C * qkv_width * a       q, k and v as computed and as rotated
        MLP          3 * C * 2 * intermediate * a   gate and up, their halves, the activated product
        residual     4 * C * hidden * a          the stream, its norm, a block's output, their sum
        logits       vocab * (a + 4)             of the last token, and the sampler's float32 copy
        unpacking    largest_linear * 2          float16 (CUDA) only: MatMulNBits unpacks a matrix for cuBLAS

    Source: onnxruntime ``contrib_ops/cpu/bert/gqa_attention_base.h`` (ApplyAttention) and
    ``contrib_ops/cuda/quantization/matmul_nbits.cc`` (ComputeInternal).
    """
    tokens = min(chunk, context)
    width = FLOAT_BYTES[activation_type]
    attention = dimensions.num_heads * tokens * context * _FLOAT32_BYTES
    projections = 2 * tokens * dimensions.qkv_width * width
    mlp = 3 * tokens * 2 * dimensions.intermediate_size * width
    residual = 4 * tokens * dimensions.hidden_size * width
    logits = dimensions.vocab_size * (width + _FLOAT32_BYTES)
    unpacking = dimensions.largest_linear * width if activation_type == "float16" else 0
    return attention + projections + mlp + residual + logits + unpacking
