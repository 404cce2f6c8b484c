"""The engine ``native``, edgekit's own: it maps the weights and computes on them as they are stored.

Its own memory is the KV cache and scratch. Memory was measured with ``/proc/self/smaps_rollup`` on Linux, x86-64,
CPython 3.11, numpy 2.4, tokenizers 0.23; ``tests/planning/test_measured_memory.py`` measures it again.
"""

from __future__ import annotations

from ...layout import DataLayout, Matrix
from ...scheme import KV_TYPES
from ..engine_speed import EngineShares, Rates
from ..lookup_tables import FAULT_AROUND_BYTES, unread_bytes
from ..memory import Dimensions, MemoryPlan, WeightBytes, kv_cache_bytes, tokenizer_bytes
from ..planned_engine import EngineSetup, PlannedEngine

# Resident before a model is opened: 45 to 53 MB, of which Python and numpy are 40.
RUNTIME_BYTES = 49_000_000
# The most tokens of a prompt that are evaluated together (native/kernels/kernels.h, prefill_rows).
PREFILL_CHUNK = 512
# The KV cache is a whole number of blocks of this many positions (native/kernels/kernels.h, kKvBlock).
KV_BLOCK = 64
_FLOAT32_BYTES = 4


def memory_of(dimensions: Dimensions, layout: DataLayout, weights: WeightBytes, setup: EngineSetup) -> MemoryPlan:
    """The engine's memory by part.

    Args:
        dimensions: The dimensions of the model.
        layout: The data file's.
        weights: Size of the data file by group.
        setup: Context, KV cache and threads; each thread has scratch of its own.
    """
    padded = -(-setup.context // KV_BLOCK) * KV_BLOCK
    embedding, rotary = unread_bytes(layout, setup.context)
    return MemoryPlan(
        weights=weights.total - embedding - rotary,
        repacking=0,
        kv_cache=kv_cache_bytes(dimensions, padded, setup.kv_type),
        activations=scratch_bytes(dimensions, layout, setup.context, setup.threads),
        tokenizer=tokenizer_bytes(dimensions.vocab_size),
        runtime=RUNTIME_BYTES,
        loading=4 * len(layout.layers) * FAULT_AROUND_BYTES,  # it reads the start of each matrix
        weight_groups=weights,
        unread_embedding=embedding,
        unread_rotary=rotary,
    )


def scratch_bytes(dimensions: Dimensions, layout: DataLayout, context: int, threads: int) -> int:
    """Bytes a session allocates in addition to its KV cache, and the logits it returns.

    For a chunk of C rows this is the sum of (``native/src/session.cpp``, ``Session::Session``)

        rows        C * (hidden + qkv + attended + head_dim) * 4      the stream, projections, rows of rotary tables
        packs       ceil(C / 16) * 16 * K * (1 + 4/32 + 4/block)      rows in the kernels' layout: codes, scales, sums;
                                                                      once for the widest input, once for down_proj
        parts       8 * heads * 2 * threads * head_dim * 4            attention over parts of a long context
        thread      16 * K * (1 + 8/block) + 2 * C * 128 * 4          a panel of weights, and gate and up of 128 outputs
        logits      vocab * 4

    for the 8-bit kernels. The panels of AMX are smaller by a few megabytes.
    """
    chunk = min(context, PREFILL_CHUNK)
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
    """Bytes of 16 rows of activations (``native/kernels/common.inl``, int8_pack_bytes)."""
    return 16 * (_padded(matrix) + 4 * _padded(matrix) // 32 + 4 * _blocks(matrix))


ENGINE = PlannedEngine(
    name="native",
    preference=lambda device: 0 if device.describes_card else 1,
    processor=lambda device: "cpu",
    kv_types=lambda activation_type: KV_TYPES,
    memory=memory_of,
    runtime_bytes=RUNTIME_BYTES,
    reads_weights_to_load=False,
    fitted_as="native",
    shares=EngineShares(
        decode=Rates(weights=0.91, attention=0.24, layer_us=38.0),
        prefill=Rates(weights=0.49, attention=0.20, layer_us=4.1),
        deviation=0.07,
    ),
)
