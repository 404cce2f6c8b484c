"""``adapter_config.json`` of a LoRA adapter, as PEFT writes it. ``checkpoint/lora.py`` says what the keys mean."""

from __future__ import annotations

from .fields import Either, Field, Items, Number, Table, Text, Truth, Whole

_NAME = Text(longest=10_000)
_ALPHA = Number(-1e6, 1e6)

ADAPTER: dict[str, Field] = {
    "alpha_pattern": Table({}, others=_ALPHA),
    "base_model_name_or_path": _NAME,
    "bias": Text(("none", "all", "lora_only")),
    "fan_in_fan_out": Truth(),
    "init_lora_weights": Either(Truth(), _NAME),
    "inference_mode": Truth(),
    "lora_alpha": _ALPHA,
    "r": Whole(),
    "rank_pattern": Table({}, others=Whole()),
    "target_modules": Either(_NAME, Items(_NAME, most=100_000)),
    "task_type": _NAME,
    "use_dora": Truth(),
    "use_rslora": Truth(),
}
