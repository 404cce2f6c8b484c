"""The engine ``cuda``: onnxruntime on an NVIDIA GPU, for float16 artifacts.

onnxruntime maps the file, copies every tensor into the GPU's memory and unmaps the file. Where the GPU shares the
system's memory, the weights count once while the model runs. During the copy the largest matrix is there twice, and the
system's cache may hold the file. The cache gives it up when memory is needed, and the engine drops it from the cache
when the model is loaded (``runtime/accelerated.py``). The engine's memory has not been measured on a GPU.
"""

from __future__ import annotations

from ...devices.profile import DeviceProfile
from ...layout import DataLayout
from ..activations import graph_activation_bytes
from ..memory import Dimensions, MemoryPlan, WeightBytes, kv_cache_bytes, largest_codes, tokenizer_bytes
from ..planned_engine import EngineSetup, PlannedEngine
from .ort import RUNTIME_BYTES
from .webgpu import PREFILL_CHUNK, copies_of

CUDA = "CUDAExecutionProvider"
# The oldest GPUs that MatMulNBits has fast kernels for (compute capability 7.5, Turing) are newer than the newest that
# current releases of CUDA and onnxruntime leave out.
LEAST_CAPABILITY = 7.5


def memory_of(dimensions: Dimensions, layout: DataLayout, weights: WeightBytes, setup: EngineSetup) -> MemoryPlan:
    """The engine's memory by part.

    Args:
        dimensions: The dimensions of the model.
        layout: The data file's.
        weights: Size of the data file by group.
        setup: Context, KV cache and the memory of CUDA's libraries.
    """
    largest = largest_codes(layout)
    return MemoryPlan(
        weights=weights.total,  # the lookup tables are copied whole
        repacking=0,
        kv_cache=kv_cache_bytes(dimensions, setup.context, setup.kv_type),
        activations=graph_activation_bytes(dimensions, setup.context, layout.activation_type, PREFILL_CHUNK),
        tokenizer=tokenizer_bytes(dimensions.vocab_size),
        runtime=RUNTIME_BYTES + (setup.accelerator_bytes or 0),
        loading=weights.total + largest,
        weight_groups=weights,
        held_twice=copies_of(weights, largest),
    )


def _preference(device: DeviceProfile) -> int | None:
    """1 where pip finds a wheel with CUDA, 0 where NVIDIA's own is needed."""
    capability = device.accelerator.compute_capability if device.accelerator else None
    if capability is None or float(capability.value) < LEAST_CAPABILITY or device.activation_type != "float16":
        return None
    return 1 if CUDA in device.execution_providers else 0


def _needs(device: DeviceProfile) -> str:
    if CUDA in device.execution_providers:
        return "pip install onnxruntime-gpu"
    return "NVIDIA's wheel of onnxruntime-gpu for this JetPack"


ENGINE = PlannedEngine(
    name="cuda",
    preference=_preference,
    processor=lambda device: "shared-gpu" if device.kind == "jetson" else "gpu",
    kv_types=lambda activation_type: (activation_type,),  # keys and values have the graph's type
    memory=memory_of,
    runtime_bytes=RUNTIME_BYTES,
    reads_weights_to_load=True,
    fitted_as="onnxruntime",
    shares=None,
    title="onnxruntime with CUDA",
    needs=_needs,
)
