"""The engine ``cuda``: onnxruntime on an NVIDIA GPU, where the installed onnxruntime was built for it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.manifest import RuntimeFacts
from ..errors import AcceleratorError, EngineError
from .accelerated import AcceleratedEngine
from .proof.adapter import Adapter, cuda_adapter
from .provider import Provider, load_onnxruntime, onnxruntime_errors

CUDA = "CUDAExecutionProvider"
PREFILL_CHUNK = 512
_NVIDIA = 0x10DE  # PCI vendor id


def _attach(ort: Any, options: Any, cpu_nodes: Sequence[str]) -> Sequence[str]:
    if find_spec("nvidia") is not None and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # from 1.21 on: CUDA's libraries from the packages nvidia-*
    return (CUDA, "CPUExecutionProvider")


class CudaEngine(AcceleratedEngine):
    """onnxruntime's CUDA kernels as an :class:`~edgekit.runtime.engine.Engine`, which describes the members."""

    name = "cuda"
    provider = Provider(CUDA, "CUDA", PREFILL_CHUNK, _attach, memory=("gpu", _NVIDIA))

    @staticmethod
    def identify(ort: Any) -> tuple[Adapter, str]:
        """CUDA's first GPU, and the version of onnxruntime."""
        if CUDA not in ort.get_available_providers():
            raise AcceleratorError(
                f"onnxruntime {ort.__version__} was not built for CUDA",
                hint="pip uninstall onnxruntime; pip install onnxruntime-gpu; on a Jetson use NVIDIA's wheel of it",
            )
        return cuda_adapter(), f"onnxruntime {ort.__version__}"

    @staticmethod
    def can_run(manifest: RuntimeFacts) -> bool:
        """Whether onnxruntime has CUDA, and the graph is float16: its attention on CUDA knows no float32."""
        return manifest.activation_type == "float16" and has_cuda_library()

    @staticmethod
    def preference(manifest: RuntimeFacts) -> int:
        """3, before every other engine, where CUDA can use a GPU; otherwise -1."""
        return 3 if has_gpu() else -1


def has_gpu() -> bool:
    """Whether CUDA can use a GPU; its driver may be missing."""
    try:
        ort = load_onnxruntime()
    except EngineError:
        return False
    try:
        CudaEngine.provider.allocate(ort, (1,), np.float32)
    except onnxruntime_errors():
        return False
    return True


def has_cuda_library() -> bool:
    """Whether the installed onnxruntime comes with CUDA; neither it nor the driver is loaded."""
    found = find_spec("onnxruntime")
    folders = [] if found is None else found.submodule_search_locations or []
    return any(list(Path(folder, "capi").glob("*onnxruntime_providers_cuda.*")) for folder in folders)


ENGINE = CudaEngine
