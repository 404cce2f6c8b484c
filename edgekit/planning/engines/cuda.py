"""The engine ``cuda``: onnxruntime on an NVIDIA GPU, on a device whose first execution provider that is."""

from __future__ import annotations

from dataclasses import replace

from ...devices.profile import DeviceProfile
from . import ort

CUDA = "CUDAExecutionProvider"


def _preference(device: DeviceProfile) -> int | None:
    return 2 if device.execution_providers[0] == CUDA else None


ENGINE = replace(
    ort.ENGINE,
    name="cuda",
    preference=_preference,
    processor=lambda device: "shared-gpu" if device.kind == "jetson" else "gpu",
    shares=None,
)
