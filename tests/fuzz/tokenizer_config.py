"""tokenizer_config.json with its chat templates, read for a build and for an artifact."""

from fuzz_changes import json_change as change
from fuzz_files import as_json, checkpoint

from edgekit.checkpoint.tokenizer_files import read_tokenizer_files
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.tokenizer import Tokenizer

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return as_json(
        {"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>", "special": True}, "chat_template": "{{ x }}"},
        {"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]},
        {"add_bos_token": True, "pad_token": "<|eos|>", "model_max_length": 1e30, "chat_template": {"default": "a"}},
    )


def read(data: bytes) -> None:
    folder = checkpoint("settings")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_bytes(data)
    found = read_tokenizer_files(folder, {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 1})
    _ = found.chat_template
    tokenizer = Tokenizer.open(folder, {"bos": 0, "eos": [1], "pad": None, "add_bos": False})
    ChatTemplate.open(folder, tokenizer)
