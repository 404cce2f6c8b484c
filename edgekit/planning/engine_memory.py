"""What each engine takes beside the weights, part by part; and the most it takes while it loads.

``native`` maps the weights and works on them as they are: its own are the KV cache and scratch. ``ort`` (onnxruntime,
on the CPU) copies the codes of each matrix into a layout of its own, one after the other, each time letting go of the
file's pages: the codes count once, but while the largest is copied it is there twice. Both look up rows of the
embedding and of the rotary tables in the mapped file: only those of tokens and positions that occur are ever in memory.

Measured with ``/proc/self/smaps_rollup`` on Linux, x86-64, CPython 3.11, numpy 2.4, onnxruntime 1.32, tokenizers 0.23;
``tests/planning/test_measured_memory.py`` measures again.
"""

from __future__ import annotations

import math

from ..layout import DataLayout, Matrix, Slot
from ..scheme import FLOAT_BYTES
from .memory import NATIVE_KV_BLOCK, Dimensions, MemoryPlan, WeightBytes, kv_cache_bytes

# Resident before a model is opened, its tokenizer not counted: the interpreter, numpy, tokenizers, the engine's library
# and its session. native: 45 to 53 MB (40 are Python and numpy). ort: 77 MB (onnxruntime's code 22, its session 12).
RUNTIME_BYTES = {"native": 49_000_000, "ort": 77_000_000}
# Of a loaded tokenizer: 17.6 MB for SmolLM2's 1.5 MB tokenizer.json, 92 MB for the 7.0 MB of R1-Distill-Qwen.
TOKENIZER_BYTES_PER_FILE_BYTE = 13
# Where the file is not there yet: its 152064 tokens make 605 bytes each, SmolLM2's 49152 make 407.
TOKENIZER_BYTES_PER_TOKEN = 600

# Tokens of a prompt that an engine works on at once (runtime/ort_engine.py, native/src/session.cpp kPrefillChunk).
ORT_CHUNK, NATIVE_CHUNK = 256, 512
_FLOAT32_BYTES = 4
# What a page fault maps of a file around the page that was touched (Linux, mm/memory.c, fault_around_bytes).
FAULT_AROUND_BYTES = 65536


def unread_bytes(layout: DataLayout, context: int) -> tuple[int, int]:
    """Bytes of the embedding and of the rotary tables that a session of ``context`` tokens leaves in the file.

    A lookup brings in the row's window of :data:`FAULT_AROUND_BYTES`. Were the tokens drawn at random, each window of
    the embedding's n would stay out with (1 - 1/n)^context; those of a text repeat, and leave more of them out. What an
    earlier conversation touched stays until memory is short, and is dropped before anything is refused. An embedding
    that is the lm_head's too is read whole. The rotary tables are read from their start.

    Measured on R1-1.5B with random tokens, of 124 MB: 13.3 after 128, 36.4 after 512; by this 13.2 and 36.4. A file
    that was written a moment ago is in the system's cache already, in pages of up to 2 MB, and Linux 6.18 counts those
    whole as the process's: what the process shows is more then, what it takes is not.
    """
    table = () if layout.shares_embedding else layout.embedding.slots
    embedding = sum(_untouched_windows(slot, context) for slot in table)
    return embedding, sum(_untouched_end(slot, context) for slot in (layout.rotary_cos, layout.rotary_sin))


def _untouched_windows(slot: Slot, lookups: int) -> int:
    windows = -(-slot.size_bytes // FAULT_AROUND_BYTES)
    return int(slot.size_bytes * (1 - 1 / windows) ** lookups)


def _untouched_end(slot: Slot, rows: int) -> int:
    read = slot.size_bytes * rows // slot.shape[0]
    return max(slot.size_bytes - (read // FAULT_AROUND_BYTES + 1) * FAULT_AROUND_BYTES, 0)


def tokenizer_bytes(vocab_size: int, file_bytes: int | None = None) -> int:
    """Of a loaded tokenizer, by the size of its ``tokenizer.json`` where that is known."""
    if file_bytes is not None:
        return TOKENIZER_BYTES_PER_FILE_BYTE * file_bytes
    return TOKENIZER_BYTES_PER_TOKEN * vocab_size


def native_memory(
    dimensions: Dimensions,
    layout: DataLayout,
    weights: WeightBytes,
    *,
    context: int,
    kv_type: str,
    threads: int,
    tokenizer_file_bytes: int | None = None,
) -> MemoryPlan:
    """The native engine's parts.

    Args:
        dimensions: Of the model.
        layout: What is in the data file.
        weights: Its size.
        context: Positions of the KV cache.
        kv_type: ``float16`` or ``int8``.
        threads: Of the arithmetic; each has scratch of its own.
        tokenizer_file_bytes: As for :func:`tokenizer_bytes`.
    """
    padded = -(-context // NATIVE_KV_BLOCK) * NATIVE_KV_BLOCK
    runtime, tokenizer = RUNTIME_BYTES["native"], tokenizer_bytes(dimensions.vocab_size, tokenizer_file_bytes)
    embedding, rotary = unread_bytes(layout, context)
    return MemoryPlan(
        weights=weights.total - embedding - rotary,
        repacking=0,
        kv_cache=kv_cache_bytes(dimensions, padded, kv_type),
        activations=native_scratch_bytes(dimensions, layout, context, threads),
        tokenizer=tokenizer,
        runtime=runtime,
        load_peak=runtime + tokenizer + 4 * len(layout.layers) * FAULT_AROUND_BYTES,  # reads each matrix's start
        weight_groups=weights,
        unread_embedding=embedding,
        unread_rotary=rotary,
    )


def native_scratch_bytes(dimensions: Dimensions, layout: DataLayout, context: int, threads: int) -> int:
    """Bytes a native session allocates beside its KV cache, and the logits it returns.

    With C rows in a chunk, the sum of (``native/src/session.cpp``, ``Session::Session``)

        rows        C * (hidden + qkv + attended + head_dim) * 4      the stream, projections, the rotary tables' rows
        packs       ceil(C / 16) * 16 * K * (1 + 4/32 + 4/block)      rows as kernels take them: codes, scales, sums;
                                                                      once for the widest input, once for down's
        parts       8 * heads * 2 * threads * head_dim * 4            attention over parts of a long context
        thread      16 * K * (1 + 8/block) + 2 * C * 128 * 4          a panel of weights, and gate and up of 128 outputs
        logits      vocab * 4

    as the 8-bit kernels have them; AMX's panels are smaller by some megabytes.
    """
    chunk = min(context, NATIVE_CHUNK)
    attended = dimensions.num_heads * dimensions.head_dim
    rows = chunk * (dimensions.hidden_size + dimensions.qkv_width + attended + dimensions.head_dim) * 4
    narrow = [m for each in layout.layers for m in (each.qkv_proj, each.o_proj, each.gate_up_proj)]
    wide = [each.down_proj for each in layout.layers]
    packs = sum(
        -(-chunk // 16) * max(_pack_bytes(m) for m in matrices) for matrices in ([*narrow, layout.lm_head], wide)
    )
    parts = 8 * dimensions.num_heads * 2 * threads * (dimensions.head_dim + 2) * 4
    panel = max(16 * (_padded(m) + 8 * _blocks(m)) for m in (*narrow, *wide))
    each_thread = panel + 2 * chunk * 128 * 4
    return rows + packs + parts + threads * each_thread + 4 * context + dimensions.vocab_size * _FLOAT32_BYTES


def _padded(matrix: Matrix) -> int:
    """Columns, rounded up to the kernels' 128."""
    return -(-matrix.in_features // 128) * 128


def _blocks(matrix: Matrix) -> int:
    return matrix.scheme.blocks(matrix.in_features) if matrix.scheme else 0


def _pack_bytes(matrix: Matrix) -> int:
    """Of 16 rows of activations (``native/kernels/common.inl``, int8_pack_bytes)."""
    return 16 * (_padded(matrix) + 4 * _padded(matrix) // 32 + 4 * _blocks(matrix))


def ort_memory(
    dimensions: Dimensions,
    layout: DataLayout,
    weights: WeightBytes,
    *,
    context: int,
    accelerator_bytes: int | None = None,
    tokenizer_file_bytes: int | None = None,
) -> MemoryPlan:
    """onnxruntime's parts; keys and values have the graph's type.

    Args:
        dimensions: Of the model.
        layout: What is in the data file.
        weights: Its size.
        context: Positions of the KV cache.
        accelerator_bytes: What the accelerator's libraries take, when one runs the graph.
        tokenizer_file_bytes: As for :func:`tokenizer_bytes`.
    """
    on_cpu = accelerator_bytes is None  # an accelerator is given the tables whole
    repacking = repacking_bytes(layout) if on_cpu else 0
    embedding, rotary = unread_bytes(layout, context) if on_cpu else (0, 0)
    loaded = weights.total - (sum(unread_bytes(layout, 0)) if on_cpu else 0)
    runtime = RUNTIME_BYTES["ort"] + (accelerator_bytes or 0)
    tokenizer = tokenizer_bytes(dimensions.vocab_size, tokenizer_file_bytes)
    largest = max((m.codes.size_bytes for m in _products(layout) if m.codes), default=0)
    return MemoryPlan(
        weights=weights.total - embedding - rotary,
        repacking=repacking,
        kv_cache=kv_cache_bytes(dimensions, context, layout.activation_type),
        activations=ort_activation_bytes(dimensions, context, layout.activation_type),
        tokenizer=tokenizer,
        runtime=runtime,
        load_peak=loaded + repacking + largest + runtime + tokenizer,
        weight_groups=weights,
        unread_embedding=embedding,
        unread_rotary=rotary,
    )


def _products(layout: DataLayout) -> tuple[Matrix, ...]:
    return (*layout.inner_matrices(), layout.lm_head)


def repacking_bytes(layout: DataLayout) -> int:
    """Bytes onnxruntime's CPU kernel for MatMulNBits with int8 activations keeps beside codes and scales.

    For every block it copies the scale and adds the block's sum, both float32, and does not let go of the scales it was
    given: twice the scales more than the file holds. Measured with onnxruntime 1.32 on x86-64 (AVX-512) on 20 matrices
    of 4096 x 4096, resident memory after loading beside the file's size: 4 bits block 32: 307 and 210 MB, block 64: 246
    and 191, block 128: 211 and 178; 8 bits block 64: 411 and 357; 13 MB of each is the session. Arm's kernels were not
    measured and are taken to keep as much. CUDA's (float16 graphs) have no such copy.
    """
    if layout.activation_type == "float16":
        return 0
    scales = sum(math.prod(m.scales.shape) for m in _products(layout) if m.scales is not None)
    return 2 * scales * _FLOAT32_BYTES


def ort_activation_bytes(dimensions: Dimensions, context: int, activation_type: str, chunk: int = ORT_CHUNK) -> int:
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


def stated_memory(
    dimensions: Dimensions, weights: int, *, engine: str, context: int, kv_type: str, accelerator_bytes: int | None
) -> MemoryPlan:
    """Of a model edgekit has no graph for, by its dimensions: as onnxruntime would run it."""
    runtime = RUNTIME_BYTES[engine] + (accelerator_bytes or 0)
    tokenizer = tokenizer_bytes(dimensions.vocab_size)
    return MemoryPlan(
        weights=weights,
        repacking=0,
        kv_cache=kv_cache_bytes(dimensions, context, kv_type),
        activations=ort_activation_bytes(dimensions, context, "float16"),
        tokenizer=tokenizer,
        runtime=runtime,
        load_peak=weights + runtime + tokenizer,
    )
