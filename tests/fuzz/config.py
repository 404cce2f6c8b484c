"""config.json: the model's shape and its rotary embedding."""

from functools import partial

import fuzz_changes
from fuzz_files import SMALL, as_json

from edgekit.json_file import parse_json_object
from edgekit.models import spec_from_config
from edgekit.schema.config import check_config

_LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 32, "beta_slow": 1}


def seeds() -> list[bytes]:
    common = {**SMALL, "vocab_size": 300, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "eos_token_id": [1, 2]}
    return as_json(
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **common, "rope_scaling": _LLAMA3},
        {"model_type": "qwen2", **common, "rope_scaling": _YARN, "use_sliding_window": False, "max_window_layers": 1},
        {"model_type": "qwen3", **common, "layer_types": ["full_attention"], "attention_bias": False},
        {"model_type": "llama", **common, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "sliding_window": None},
        {"model_type": "qwen3", **common, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        {"model_type": "deepseek_v3", **common, "n_routed_experts": 2, "kv_lora_rank": 8, "quantization_config": {}},
    )


def change(choose, data):
    return partial(fuzz_changes.json_change, others=seeds())(choose, data)


def read(data: bytes) -> None:
    config = parse_json_object(data, "config.json")
    check_config(config)
    spec = spec_from_config(config)
    _ = spec.parameters, spec.rope.inverse_frequencies(), spec.rope.describe()
