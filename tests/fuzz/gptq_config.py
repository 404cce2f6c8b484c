"""quantize_config.json of a GPTQ checkpoint, and its copy in config.json."""

from fuzz_changes import json_change as change
from fuzz_files import as_json, written

from edgekit.checkpoint.gptq_config import read_gptq_config
from edgekit.json_file import parse_json_object

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return as_json(
        {"bits": 4, "group_size": 32, "desc_act": True, "sym": False, "quant_method": "gptq", "lm_head": True},
        {"bits": 8, "group_size": -1, "method": "gptq", "format": "gptq_v2", "pack_dtype": "int32",
         "dynamic": {"-:.*down_proj": {}, "+:.*\\.(?:1|2)\\..*": {"bits": 4, "group_size": 64}, r"lm_head": None}},
    )  # fmt: skip


def read(data: bytes) -> None:
    path = written("gptq/quantize_config.json", data)
    content = parse_json_object(data, "config.json")
    for config in ({}, {"quantization_config": content}):
        found = read_gptq_config(path.parent, config)
        for module in ("model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj", "lm_head", "x" * 200):
            found.for_module(module)
    path.unlink()
    read_gptq_config(path.parent, {"quantization_config": content})
