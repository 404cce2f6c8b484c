"""A LoRA adapter: its settings, the names and shapes of its tensors, and the rows of a model that it is merged into."""

import contextlib
import json
import struct

from fuzz_changes import json_change as change
from fuzz_files import as_json, checkpoint, written
from tiny_lora import CONFIG, PREFIX

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.lora import LoraAdapter
from edgekit.json_file import parse_json_object
from edgekit.weights.merged import MergedCheckpoint

__all__ = ["change", "read", "seeds"]
_Q = f"{PREFIX}model.layers.0.self_attn.q_proj"


def seeds() -> list[bytes]:
    return as_json(
        {"config": CONFIG, "tensors": {f"{_Q}.lora_A.weight": [4, 64], f"{_Q}.lora_B.weight": [64, 4]}},
        {"config": CONFIG, "tensors": {f"{_Q}.lora_A.weight": [4, 8], f"{_Q}.lora_B.weight": [8, 4]}},
        {
            "config": {**CONFIG, "use_dora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {".*_proj": 8}},
            "tensors": {f"{_Q}.lora_A.x.weight": [2, 64], f"{_Q}.lora_B.x.weight": [64, 2],
                        f"{_Q}.lora_magnitude_vector": [64]},
        },
        {
            "config": {**CONFIG, "bias": "all", "modules_to_save": ["lm_head"], "use_rslora": True},
            "tensors": {f"{PREFIX}lm_head.modules_to_save.weight": [8, 8], f"{_Q}.base_layer.bias": [8],
                        f"{PREFIX}model.embed_tokens.lora_embedding_A": [4, 8],
                        f"{PREFIX}model.embed_tokens.lora_embedding_B": [8, 4]},
        },
    )  # fmt: skip


def read(data: bytes) -> None:
    content = parse_json_object(data, "input")
    header, end = {}, 0
    tensors = content.get("tensors")
    for name, shape in (tensors if isinstance(tensors, dict) else {}).items():
        size = 4
        for length in shape if isinstance(shape, list) else ():
            size *= length if isinstance(length, int) and 0 <= length < 1000 else 1
        size = min(size, 1 << 20)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path = written("adapter/adapter_config.json", json.dumps(content.get("config")).encode())
    written("adapter/adapter_model.safetensors", struct.pack("<Q", len(text)) + text + bytes(end))
    with contextlib.closing(LoraAdapter(path.parent)) as adapter, open_checkpoint(checkpoint("lora-base")) as base:
        merged = MergedCheckpoint(base, [adapter])
        for name in {*adapter.low_rank, *adapter.replaced} & merged.tensors.keys():
            merged.rows(name, 1, 3)
