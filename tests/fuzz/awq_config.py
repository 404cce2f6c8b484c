"""The settings of an AWQ checkpoint."""

from fuzz_changes import json_change as change
from fuzz_files import as_json, written

from edgekit.checkpoint.awq_config import read_awq_config
from edgekit.json_file import parse_json_object

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return as_json(
        {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"},
        {"w_bit": 4, "q_group_size": 64, "zero_point": False, "version": "GEMV", "modules_to_not_convert": ["lm_head"]},
        {"method": "awq", "format": "gemm", "bits": 4, "group_size": 32, "sym": True},
    )


def read(data: bytes) -> None:
    content = parse_json_object(data, "config.json")
    path = written("awq/quant_config.json", data)
    for config in ({"quantization_config": content}, {}):
        read_awq_config(path.parent, config).quantizes("model.layers.0.mlp.up_proj")
