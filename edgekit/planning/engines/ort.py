"""The engine ``ort``: onnxruntime on the processor. ``cuda.py`` and ``webgpu.py`` are onnxruntime on a GPU.

It copies the codes of each matrix into a layout of its own, one matrix after the other, and each time
releases the file's pages. The codes therefore count once, but while the largest matrix is copied it is in memory twice.
Memory was measured with ``/proc/self/smaps_rollup`` on Linux, x86-64, CPython 3.11, numpy 2.4, onnxruntime 1.32,
tokenizers 0.23; ``tests/planning/test_measured_memory.py`` measures it again.
"""

from __future__ import annotations

import math

from ...layout import DataLayout, Matrix
from ..activations import graph_activation_bytes
from ..engine_speed import EngineShares, Rates
from ..lookup_tables import unread_bytes
from ..memory import Dimensions, HeldTwice, MemoryPlan, WeightBytes, kv_cache_bytes, largest_codes, tokenizer_bytes
from ..planned_engine import EngineSetup, PlannedEngine

# Resident before a model is opened: Python and numpy 40 MB, onnxruntime's code 22, its session 12.
RUNTIME_BYTES = 77_000_000
# Tokens of a prompt that are evaluated together (runtime/ort_engine.py).
PREFILL_CHUNK = 256
_FLOAT32_BYTES = 4


def memory_of(dimensions: Dimensions, layout: DataLayout, weights: WeightBytes, setup: EngineSetup) -> MemoryPlan:
    """The engine's memory by part.

    Args:
        dimensions: The dimensions of the model.
        layout: The data file's.
        weights: Size of the data file by group.
        setup: Context and KV cache.
    """
    repacking, largest = repacking_bytes(layout), largest_codes(layout)
    embedding, rotary = unread_bytes(layout, setup.context)
    twice = (
        HeldTwice("scales, which the kernels copy", repacking, "running"),
        HeldTwice("the largest matrix, while it is copied", largest, "loading"),
    )
    return MemoryPlan(
        weights=weights.total - embedding - rotary,
        repacking=repacking,
        kv_cache=kv_cache_bytes(dimensions, setup.context, setup.kv_type),
        activations=graph_activation_bytes(dimensions, setup.context, layout.activation_type, PREFILL_CHUNK),
        tokenizer=tokenizer_bytes(dimensions.vocab_size),
        runtime=RUNTIME_BYTES,
        loading=weights.total - sum(unread_bytes(layout, 0)) + repacking + largest,
        weight_groups=weights,
        unread_embedding=embedding,
        unread_rotary=rotary,
        held_twice=tuple(part for part in twice if part.size_bytes),
    )


def repacking_bytes(layout: DataLayout) -> int:
    """Bytes that onnxruntime's CPU kernel for MatMulNBits with int8 activations keeps in addition to the weights.

    For every block it copies the scale and adds the block's sum, both float32, and it does not release the scales it
    was given: twice the file's scales. Measured with onnxruntime 1.32 on x86-64 (AVX-512) on 20 matrices of
    4096 x 4096, resident memory after loading and the file's size: 4 bits, block 32: 307 and 210 MB, block 64: 246 and
    191, block 128: 211 and 178; 8 bits, block 64: 411 and 357. The session is 13 MB of each. Arm's kernels were not
    measured and are assumed to keep as much. A float16 graph's kernels keep no copy.
    """
    if layout.activation_type == "float16":
        return 0
    scales = sum(math.prod(m.scales.shape) for m in _products(layout) if m.scales is not None)
    return 2 * scales * _FLOAT32_BYTES


def _products(layout: DataLayout) -> tuple[Matrix, ...]:
    return (*layout.inner_matrices(), layout.lm_head)


ENGINE = PlannedEngine(
    name="ort",
    preference=lambda device: -1 if device.describes_card else 0,  # the native engine is faster
    processor=lambda device: "cpu",
    kv_types=lambda activation_type: (activation_type,),  # keys and values have the graph's type
    memory=memory_of,
    runtime_bytes=RUNTIME_BYTES,
    reads_weights_to_load=True,
    fitted_as="onnxruntime",
    shares=EngineShares(
        decode=Rates(weights=0.70, attention=0.0315, layer_us=80.0),
        prefill=Rates(weights=0.227, attention=0.15, layer_us=8.0),
        deviation=0.08,
    ),
)
