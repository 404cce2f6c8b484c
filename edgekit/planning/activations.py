"""Bytes of the buffers that an engine needs when it runs the graph operator by operator."""

from __future__ import annotations

from ..scheme import FLOAT_BYTES
from .memory import Dimensions

_FLOAT32_BYTES = 4


def graph_activation_bytes(
    dimensions: Dimensions, context: int, activation_type: str, chunk: int, *, unpacks: bool = True
) -> int:
    """Bytes of the buffers for a chunk of the prompt. Decoding needs less.

    With C tokens in the chunk and numbers of a bytes, this is the sum of

        attention    heads * C * context * 4     GroupQueryAttention's probabilities, float32, over the whole cache
        projections  2 * C * qkv_width * a       q, k and v as computed and as rotated; with norms of the heads also
                                                 as split and as normalized: 4
        MLP          3 * C * 2 * intermediate * a   gate and up, their halves, the activated product
        residual     4 * C * hidden * a          the stream, its norm, a block's output, their sum
        logits       vocab * (a + 4)             of the last token, and the sampler's float32 copy
        unpacking    largest_linear * 2          float16 (CUDA) only: MatMulNBits unpacks a matrix for cuBLAS

    It is an upper bound, since not all of these exist at the same time.

    Args:
        dimensions: The dimensions of the model.
        context: Positions of the KV cache.
        activation_type: ``float32`` or ``float16``.
        chunk: Tokens that are evaluated together.
        unpacks: Whether a matrix is unpacked for a library's product where activations are float16.

    Source: onnxruntime ``contrib_ops/cpu/bert/gqa_attention_base.h`` (ApplyAttention) and
    ``contrib_ops/cuda/quantization/matmul_nbits.cc`` (ComputeInternal).
    """
    tokens = min(chunk, context)
    width = FLOAT_BYTES[activation_type]
    attention = dimensions.num_heads * tokens * context * _FLOAT32_BYTES
    projections = (4 if dimensions.qk_norm else 2) * tokens * dimensions.qkv_width * width
    mlp = 3 * tokens * 2 * dimensions.intermediate_size * width
    residual = 4 * tokens * dimensions.hidden_size * width
    logits = dimensions.vocab_size * (width + _FLOAT32_BYTES)
    unpacking = dimensions.largest_linear * width if unpacks and activation_type == "float16" else 0
    return attention + projections + mlp + residual + logits + unpacking
