"""A GGUF file: its header, its configuration, its tokenizer and its weights.

A file that says it is one of several is read as both the first and the second of two.
"""

import contextlib
import struct
from typing import Any

import numpy as np
from fuzz_changes import binary_change as change
from fuzz_files import written

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError
from edgekit.models import spec_from_config

__all__ = ["change", "read", "seeds"]


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<Ii", 5, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    return struct.pack("<IIQ", 9, 5, len(value)) + np.array(value, "<i4").tobytes()


def _file(metadata: dict[str, Any], tensors: dict[str, tuple[int, ...]]) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_string(key) + _value(value) for key, value in metadata.items())
    data = b""
    for name, shape in tensors.items():
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], 0, len(data))
        data += bytes(-(-4 * int(np.prod(shape)) // 32) * 32)
    return head + bytes(-len(head) % 32) + data


def seeds() -> list[bytes]:
    tokens = [*map(chr, range(33, 127)), "ab", "<bos>", "<eos>"]
    shape = {
        "llama.block_count": 1, "llama.context_length": 64, "llama.embedding_length": 32,
        "llama.feed_forward_length": 8,
        "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1, "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
    }  # fmt: skip
    words = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 95 + [3, 3], "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 95, "tokenizer.ggml.eos_token_id": 96, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": "{{ messages[0]['content'] }}",
    }  # fmt: skip
    pieces = {**words, "tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0] * 97}
    options = {
        "llama.attention.key_length": 16, "llama.attention.value_length": 16, "llama.rope.dimension_count": 16,
        "llama.attention.scale": 0.25, "llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0,
        "llama.rope.scaling.original_context_length": 32, "llama.expert_count": 0, "llama.attention.sliding_window": 64,
        "general.alignment": 32, "llama.vocab_size": 97,
    }  # fmt: skip
    tensors = {"token_embd.weight": (97, 32), "output_norm.weight": (32,)}
    name = {"general.architecture": "llama"}
    return [
        _file({**name, **shape, **words}, tensors),
        _file({**name, **shape, **pieces}, tensors),
        _file({**name, **options, **shape}, tensors),
        _file({**name, **shape}, {"rope_freqs.weight": (8,), **tensors}),
        _file({**name, **shape, **words, "split.no": 0, "split.count": 2, "split.tensors.count": 4}, tensors),
    ]


def read(data: bytes) -> None:
    path = written("model.gguf", data)
    number = data.find(b"split.no") + len(b"split.no") + 4  # after the value's type
    if number >= 12:
        path = written("model-00001-of-00002.gguf", data)
        second = data.replace(b"token_embd.weight", b"blk.0.attn_q.weig").replace(b"output_norm.", b"outputs_no..")
        written("model-00002-of-00002.gguf", second[:number] + b"\1" + second[number + 1 :])
    with open_checkpoint(path) as checkpoint:
        spec_from_config(checkpoint.config)
        for name, info in checkpoint.tensors.items():
            with contextlib.suppress(CheckpointError):
                checkpoint.rows(name, 0, min(2, info.shape[0]) if info.shape else 0)
        _ = checkpoint.tokenizer
