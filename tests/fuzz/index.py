"""The index of a checkpoint in shards."""

from fuzz_changes import json_change as change
from fuzz_files import as_json, scratch, written

from edgekit.checkpoint.shards import read_index

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return as_json(
        {"metadata": {"total_size": 1}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}},
        {"weight_map": {"a": "model-00001-of-00002.safetensors"}},
    )


def read(data: bytes) -> None:
    folder = scratch() / "index"
    path = written("index/model.safetensors.index.json", data)
    for name in ("one", "two", "model-00001-of-00003"):
        (folder / f"{name}.safetensors").touch()
    read_index(path)
