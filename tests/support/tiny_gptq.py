"""Writes GPTQ checkpoints word by word from the format's description, independently of edgekit's packing.

Each linear has ``qweight`` int32 (in * bits / 32, out), ``qzeros`` int32 (groups, out * bits / 32), ``scales`` float16
(groups, out) and ``g_idx`` int32 (in). Format ``gptq`` stores zero points minus one, ``gptq_v2`` unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# All widths are multiples of 32, as the format requires. The MLP's 160 is not a multiple of 64 or 128.
SHAPES = {
    "hidden_size": 128, "intermediate_size": 160, "num_attention_heads": 4, "head_dim": 32, "num_key_value_heads": 2,
    "vocab_size": 320,
}  # fmt: skip


@dataclass
class GptqWeight:
    """One linear before packing.

    Args:
        codes: (in, out), 0 to 2**bits - 1.
        zeros: (groups, out), the true zero points.
        scales: (groups, out) float16.
        groups: (in), each input's group.
    """

    bits: int
    codes: np.ndarray
    zeros: np.ndarray
    scales: np.ndarray
    groups: np.ndarray

    def dequantize(self) -> np.ndarray:
        """float64 (out, in)."""
        zeros, scales = self.zeros[self.groups].astype(float), self.scales[self.groups].astype(float)
        return np.ascontiguousarray(
            ((self.codes - zeros) * scales).T
        )  # save_file writes the buffer, whatever its order

    def tensors(self, module: str, zero_offset: int) -> dict[str, np.ndarray]:
        """The four tensors. ``zero_offset`` is subtracted from each stored zero point."""
        stored = (self.zeros.astype(int) - zero_offset) % 2**self.bits
        return {
            f"{module}.qweight": words(self.codes.T, self.bits).T.copy(),
            f"{module}.qzeros": words(stored, self.bits),
            f"{module}.scales": self.scales,
            f"{module}.g_idx": self.groups.astype(np.int32),
        }


def words(values: np.ndarray, bits: int) -> np.ndarray:
    """Pack each row with the lowest bits first, using Python integers: (n, m) -> int32 (n, m * bits / 32)."""
    count = 32 // bits
    assert values.shape[1] % count == 0
    packed = np.zeros((values.shape[0], values.shape[1] // count), np.uint32)
    for row in range(values.shape[0]):
        for word in range(packed.shape[1]):
            fields = values[row, word * count : (word + 1) * count]
            packed[row, word] = sum(int(f) << (bits * i) for i, f in enumerate(fields))
    return packed.view(np.int32)


def random_weight(
    out: int, in_: int, *, bits: int = 4, group_size: int = 32, symmetric: bool = True, seed: int = 0
) -> GptqWeight:
    """Random codes in groups of consecutive inputs; the last group may be short."""
    rng = np.random.default_rng(seed)
    size = in_ if group_size == -1 else group_size
    groups = np.arange(in_) // size
    shape = (int(groups[-1]) + 1, out)
    zeros = np.full(shape, 2 ** (bits - 1)) if symmetric else rng.integers(0, 2**bits, shape)
    scales = (rng.uniform(0.5, 1.5, shape) * in_**-0.5 / 2 ** (bits - 1) * 2).astype(np.float16)
    return GptqWeight(bits, rng.integers(0, 2**bits, (in_, out)), zeros, scales, groups)


@dataclass
class TinyGptq:
    """A checkpoint to write. Set the fields, which can also damage it, and call :meth:`write`."""

    family: str = "llama"
    bits: int = 4
    group_size: int = 32
    symmetric: bool = True
    stored_format: str = "gptq"
    lm_head: bool = False
    model: dict[str, Any] = field(default_factory=dict)
    """Changes to config.json."""
    quantize_config: dict[str, Any] = field(default_factory=dict)
    """Changes to quantize_config.json; None removes a key."""
    copy: dict[str, Any] = field(default_factory=dict)
    """Changes to the copy in config.json."""
    float_modules: tuple[str, ...] = ()
    """Suffixes of the names of linears that stay in float."""
    per_module: Callable[[str], Mapping[str, Any]] = lambda module: {}
    """Arguments for ``random_weight``, by module."""
    change: Callable[[dict[str, np.ndarray]], None] = lambda tensors: None
    """Changes the tensors before they are written."""
    weights: dict[str, GptqWeight] = field(default_factory=dict)
    """Set by :meth:`write`: module -> weight."""
    plain: dict[str, np.ndarray] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        config = tiny_config(self.family, **{**SHAPES, **self.model})
        self.plain = random_tensors(config)
        tensors: dict[str, np.ndarray] = {}
        for i, (name, values) in enumerate(self.plain.items()):
            module = name.removesuffix(".weight")
            wanted = module.endswith(LINEARS) or (self.lm_head and module == "lm_head")
            if values.ndim != 2 or not wanted or module.endswith(self.float_modules or ("\0",)):
                tensors[name] = values.astype(np.float16)
                continue
            settings = {"bits": self.bits, "group_size": self.group_size, "symmetric": self.symmetric, "seed": i}
            weight = self.weights[module] = random_weight(*values.shape, **{**settings, **self.per_module(module)})
            tensors |= weight.tensors(module, 1 if self.stored_format == "gptq" else 0)
        self.change(tensors)
        write_checkpoint(folder, self.family, tensors, **{**SHAPES, **self.model})
        settings = {
            "bits": self.bits, "group_size": self.group_size, "desc_act": False, "sym": self.symmetric,
            "lm_head": self.lm_head, "quant_method": "gptq", "checkpoint_format": self.stored_format,
        }  # fmt: skip
        content = {k: v for k, v in {**settings, **self.quantize_config}.items() if v is not None}
        (folder / "quantize_config.json").write_text(json.dumps(content))
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": {**content, **self.copy}}))
        return folder

    def float_twin(self, folder: Path) -> Path:
        """Write the same model in float32, with each quantized linear dequantized."""
        tensors = {name: values.astype(np.float16).astype(np.float32) for name, values in self.plain.items()}
        tensors |= {f"{m}.weight": w.dequantize().astype(np.float32) for m, w in self.weights.items()}
        return write_checkpoint(folder, self.family, tensors, **{**SHAPES, **self.model})


def rewrite(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change the tensors of a checkpoint in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
