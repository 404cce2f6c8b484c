"""``adapter_config.json`` of a LoRA adapter, as PEFT writes it. ``checkpoint/lora.py`` says what the keys mean."""

from __future__ import annotations

from .fields import Either, Field, Items, Text, Truth

_NAME = Text(longest=10_000)

ADAPTER: dict[str, Field] = {
    "base_model_name_or_path": _NAME,
    "bias": Text(("none", "all", "lora_only")),
    "fan_in_fan_out": Truth(),
    "inference_mode": Truth(),
    "target_modules": Either(_NAME, Items(_NAME, most=100_000)),
    "task_type": _NAME,
}
