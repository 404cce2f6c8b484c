"""``quantize_config.json`` of a GPTQ checkpoint, AWQ's settings, and their copy in ``config.json``."""

from __future__ import annotations

from .fields import Either, Field, Items, Number, Optional, Table, Text, Truth, Whole

_NAME = Text(longest=1000)
_BITS = Whole(1, 64)  # which of them are supported depends on the method
GROUP_SIZE = Either(Whole(1), Whole(-1, -1))

_FORMAT: dict[str, Field] = {"quant_method": _NAME, "checkpoint_format": _NAME, "pack_dtype": _NAME}
_MODULE: dict[str, Field] = {"bits": _BITS, "group_size": GROUP_SIZE, "desc_act": Truth(), "sym": Truth(), **_FORMAT}
GPTQ: dict[str, Field] = {
    **_MODULE,
    "lm_head": Truth(),
    "is_marlin_format": Truth(),
    # GPTQModel: a regular expression for module names -> other values for these modules. A model of 100 layers has 700
    # quantized modules; those that are not quantized may have false for a table.
    "dynamic": Table({}, others=Optional(Table(_MODULE, nulls=True))),
}
AWQ: dict[str, Field] = {
    "quant_method": _NAME,
    "bits": _BITS,
    "group_size": GROUP_SIZE,
    "version": _NAME,
    "zero_point": Truth(),
    "sym": Truth(),
    "modules_to_not_convert": Items(_NAME, most=100_000),
}
FP8: dict[str, Field] = {
    "quant_method": _NAME,
    "weight_scale_semantics": _NAME,
    "weight_block_size": Items(Whole(1, 1 << 20), most=2),
    "modules_to_not_convert": Items(_NAME, most=100_000),
    "ignored_layers": Items(_NAME, most=100_000),
    "damp_percent": Number(0, 1),
}
