"""The engine ``webgpu``: onnxruntime on a GPU through its WebGPU plugin.

Its speed has not been measured on any device, so it is planned for none.
"""

from __future__ import annotations

from dataclasses import replace

from . import ort

ENGINE = replace(
    ort.ENGINE,
    name="webgpu",
    preference=lambda device: None,
    processor=lambda device: "shared-gpu" if device.kind == "jetson" else "gpu",
    shares=None,
)
