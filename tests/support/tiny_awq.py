"""Writes AWQ checkpoints word by word from AutoAWQ's description of its layouts, independently of edgekit's packing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from raw_safetensors import save_tensors
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint
from tiny_gptq import LINEARS, SHAPES, GptqWeight, random_weight

GEMM_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def pack(values: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Field i of word j holds column 8 j + order[i]; missing columns are zeros."""
    rows, columns = values.shape
    packed = np.zeros((rows, -(-columns // 8)), np.uint32)
    for row in range(rows):
        for word in range(packed.shape[1]):
            for i, place in enumerate(order):
                if word * 8 + place < columns:
                    packed[row, word] |= np.uint32(int(values[row, word * 8 + place]) << (4 * i))
    return packed.view(np.int32)


def awq_tensors(module: str, weight: GptqWeight, version: str, padded_words: int = 0) -> dict[str, np.ndarray]:
    """The tensors of one linear. ``padded_words`` widens the zero points and scales of version gemv."""
    if version == "gemm":
        return {
            f"{module}.qweight": pack(weight.codes, GEMM_ORDER),
            f"{module}.qzeros": pack(weight.zeros, GEMM_ORDER),
            f"{module}.scales": weight.scales,
        }
    zeros = pack(weight.zeros.T, tuple(range(8)))
    wide = np.zeros((zeros.shape[0], zeros.shape[1] + padded_words), np.int32)
    wide[:, : zeros.shape[1]] = zeros
    scales = np.zeros((wide.shape[0], wide.shape[1] * 8), np.float16)
    scales[:, : weight.scales.shape[0]] = weight.scales.T
    return {
        f"{module}.qweight": pack(weight.codes.T, tuple(range(8))),
        f"{module}.qzeros": wide,
        f"{module}.scales": scales,
    }


@dataclass
class TinyAwq:
    """A checkpoint to write. Set the fields, which can also damage it, and call :meth:`write`."""

    family: str = "qwen2"
    version: str = "gemm"
    group_size: int = 32
    zero_point: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    """Changes to the quantization_config; None removes a key."""
    float_modules: tuple[str, ...] = ()
    """Suffixes of the names of linears that stay in float."""
    change: Callable[[dict[str, np.ndarray]], None] = lambda tensors: None
    """Changes the tensors before they are written."""
    weights: dict[str, GptqWeight] = field(default_factory=dict)
    """Set by :meth:`write`: module -> weight."""
    plain: dict[str, np.ndarray] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        self.plain = random_tensors(tiny_config(self.family, **SHAPES))
        tensors: dict[str, np.ndarray] = {}
        for i, (name, values) in enumerate(self.plain.items()):
            module = name.removesuffix(".weight")
            if values.ndim != 2 or not module.endswith(LINEARS) or module.endswith(self.float_modules or ("\0",)):
                tensors[name] = values.astype(np.float16)
                continue
            weight = random_weight(*values.shape, group_size=self.group_size, symmetric=not self.zero_point, seed=i)
            self.weights[module] = weight
            tensors |= awq_tensors(module, weight, self.version, padded_words=1)
        self.change(tensors)
        settings = {
            "quant_method": "awq", "bits": 4, "group_size": self.group_size, "zero_point": self.zero_point,
            "version": self.version, "modules_to_not_convert": list(self.float_modules) or None,
        }  # fmt: skip
        described = {k: v for k, v in {**settings, **self.settings}.items() if v is not None}
        write_checkpoint(folder, self.family, {}, **SHAPES, **({"quantization_config": described} if described else {}))
        save_tensors(folder / "model.safetensors", tensors)
        return folder

    def float_twin(self, folder: Path) -> Path:
        """Write the same model in float32, with each quantized linear dequantized."""
        tensors = {name: values.astype(np.float16).astype(np.float32) for name, values in self.plain.items()}
        tensors |= {f"{m}.weight": w.dequantize().astype(np.float32) for m, w in self.weights.items()}
        return write_checkpoint(folder, self.family, tensors, **SHAPES)


def describe(folder: Path, **keys: Any) -> None:
    """Replace the quantization_config of a checkpoint."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": keys}))
