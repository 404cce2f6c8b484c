"""Writes LoRA adapters as PEFT does, and computes the merged weights from the definition, independently of edgekit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from raw_safetensors import save_tensors

PREFIX = "base_model.model."
CONFIG = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 16, "use_rslora": False, "use_dora": False,
    "fan_in_fan_out": False, "bias": "none", "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None,
    "target_modules": ["q_proj"], "base_model_name_or_path": "someone/base", "inference_mode": True,
}  # fmt: skip


def write_adapter(folder: Path, tensors: Mapping[str, np.ndarray], **config: Any) -> Path:
    """Write an adapter; names get PEFT's prefix. A config value of None removes the key."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in {**CONFIG, **config}.items() if value is not None}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    save_tensors(folder / "adapter_model.safetensors", {PREFIX + name: array for name, array in tensors.items()})
    return folder


def factors(
    module: str, out: int, in_: int, rank: int = 4, *, name: str = "", seed: int = 0, dtype: Any = np.float32
) -> dict[str, np.ndarray]:
    """lora_A (rank, in) and lora_B (out, rank) of a linear, large enough to change what it computes."""
    rng = np.random.default_rng(seed)
    infix = f".{name}" if name else ""
    return {
        f"{module}.lora_A{infix}.weight": (rng.standard_normal((rank, in_)) * in_**-0.5).astype(dtype),
        f"{module}.lora_B{infix}.weight": (rng.standard_normal((out, rank)) * 0.5).astype(dtype),
    }


def merged_linear(w: np.ndarray, a: np.ndarray, b: np.ndarray, scale: float) -> np.ndarray:
    """float64 (out, in)."""
    return w.astype(float) + scale * (b.astype(float) @ a.astype(float))
