"""generation_config.json, beside a tokenizer."""

from fuzz_changes import json_change as change
from fuzz_files import as_json, checkpoint

from edgekit.checkpoint.tokenizer_files import read_tokenizer_files

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return as_json(
        {"eos_token_id": [1, 2], "bos_token_id": 0, "pad_token_id": 1, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
        {"do_sample": False, "repetition_penalty": 1.1, "min_p": 0.1, "max_new_tokens": 100, "stop_strings": ["x"]},
    )


def read(data: bytes) -> None:
    folder = checkpoint("generation")
    (folder / "generation_config.json").write_bytes(data)
    read_tokenizer_files(folder, {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 1})
