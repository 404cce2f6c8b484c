"""A GPU without a GPU: the processor, which reads an artifact's weights from another folder, or fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgekit.runtime.accelerated import AcceleratedEngine
from edgekit.runtime.proof.adapter import Adapter
from edgekit.runtime.provider import Provider

ADAPTER = Adapter("Pretended GPU", "1.2.3", float16=True)
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


def pretended_gpu(weights: Path | None = None, adapter: Adapter = ADAPTER) -> type[AcceleratedEngine]:
    """An engine whose GPU has the weights of this folder; None: those of the artifact."""

    def attach(ort: Any, options: Any, cpu_nodes: Sequence[str]) -> Sequence[str]:
        if weights is not None:
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(weights))
        return ("CPUExecutionProvider",)

    class PretendedEngine(AcceleratedEngine):
        name = "pretended"
        provider = Provider("CPUExecutionProvider", "Pretended", 512, attach, float_products=True)

        @staticmethod
        def identify(ort: Any) -> tuple[Adapter, str]:
            return adapter, f"onnxruntime {ort.__version__}"

    return PretendedEngine


def weight_slots(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Where each weight is in ``model.onnx.data``: its offset, its size in bytes, and its ONNX data type."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    found = {}
    for each in model.graph.initializer:
        entries = {entry.key: entry.value for entry in each.external_data}
        if entries:
            found[each.name] = (int(entries["offset"]), int(entries["length"]), each.data_type)
    return found


def with_fault(folder: Path, weight: str, out: Path, seed: int = 0) -> None:
    """Write a folder whose ``model.onnx.data`` differs in one element of a weight.

    The highest bit of a code or zero point is flipped. A float is a quarter larger, or a quarter if it is zero.
    """
    offset, size, kind = weight_slots(folder)[weight]
    data = bytearray((folder / "model.onnx.data").read_bytes())
    dtype: type[Any] = {1: np.float32, 10: np.float16, 2: np.uint8}[kind]
    values = np.frombuffer(data, dtype, size // np.dtype(dtype).itemsize, offset)
    at = int(np.random.default_rng(seed).integers(values.size))
    if dtype is np.uint8:
        values[at] ^= 0x80
    else:
        values[at] += abs(values[at]) / 4 or 0.25
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.onnx.data").write_bytes(data)
