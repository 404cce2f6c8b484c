"""The engine ``webgpu``: onnxruntime on a GPU by its WebGPU plugin, which reaches the GPU by Vulkan, Metal or Direct3D.

The plugin copies every tensor into a buffer of the GPU, and onnxruntime unmaps the file. Where the GPU shares the
system's memory, the weights therefore count once while the model runs, and the largest matrix twice during the copy.
Measured with plugin 0.4.0 and onnxruntime 1.32 on SwiftShader, a Vulkan whose buffers are ordinary memory, with
R1-1.5B's shape (int4, block 128; a file of 961 MB): resident after loading 964 MB more than before, no page of the file
mapped, and 1053 MB more at the peak. Neither ``session.use_device_allocator_for_initializers`` nor the modes of the
plugin's buffer caches change that. The memory of a GPU's driver is not known: SwiftShader's shaders take 280 MB.
"""

from __future__ import annotations

from ...devices.profile import DeviceProfile
from ...layout import DataLayout
from ..activations import graph_activation_bytes
from ..memory import Dimensions, HeldTwice, MemoryPlan, WeightBytes, kv_cache_bytes, largest_codes, tokenizer_bytes
from ..planned_engine import EngineSetup, PlannedEngine
from .ort import RUNTIME_BYTES

WEBGPU = "WebGpuExecutionProvider"
# The Vulkan driver, the plugin and compiled shaders. Assumed: a driver on a GPU has not been measured.
DRIVER_BYTES = 150_000_000
# Tokens of a prompt that are evaluated together. The proof may choose fewer on a machine.
PREFILL_CHUNK = 512


def memory_of(dimensions: Dimensions, layout: DataLayout, weights: WeightBytes, setup: EngineSetup) -> MemoryPlan:
    """The engine's memory by part.

    Args:
        dimensions: The dimensions of the model.
        layout: The data file's.
        weights: Size of the data file by group.
        setup: Context and KV cache.
    """
    largest = largest_codes(layout)
    activations = graph_activation_bytes(
        dimensions, setup.context, layout.activation_type, PREFILL_CHUNK, unpacks=False
    )
    return MemoryPlan(
        weights=weights.total,  # the lookup tables are copied whole
        repacking=0,
        kv_cache=kv_cache_bytes(dimensions, setup.context, setup.kv_type),
        activations=activations,
        tokenizer=tokenizer_bytes(dimensions.vocab_size),
        runtime=RUNTIME_BYTES + DRIVER_BYTES,
        loading=weights.total + largest,
        weight_groups=weights,
        held_twice=copies_of(weights, largest),
    )


def copies_of(weights: WeightBytes, largest: int) -> tuple[HeldTwice, ...]:
    """What is in memory twice when a session copies the weights to a GPU that shares the memory.

    Args:
        weights: Size of the data file by group.
        largest: Bytes of the largest matrix.
    """
    return (
        HeldTwice("the largest matrix, while it is copied to the GPU", largest, "loading"),
        HeldTwice("the file, in the system's cache", weights.total, "loading", is_cache=True),
    )


def _preference(device: DeviceProfile) -> int | None:
    on_gpu = device.accelerator is not None and device.accelerator.kind == "gpu"
    return 1 if on_gpu and WEBGPU in device.execution_providers else None


def _needs(device: DeviceProfile) -> str:
    loader = " and libvulkan1" if device.target.startswith("linux") else ""
    return f'pip install "edgekit-llm[webgpu]"{loader}'


ENGINE = PlannedEngine(
    name="webgpu",
    preference=_preference,
    processor=lambda device: "gpu" if device.kind == "desktop" else "shared-gpu",
    kv_types=lambda activation_type: (activation_type,),  # keys and values have the graph's type
    memory=memory_of,
    runtime_bytes=RUNTIME_BYTES + DRIVER_BYTES,
    reads_weights_to_load=True,
    fitted_as="onnxruntime-webgpu",
    shares=None,
    title="onnxruntime's WebGPU plugin",
    needs=_needs,
    uses_vector_units=True,
)
