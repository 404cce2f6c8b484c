"""Folders: shards and their index, and what is said about folders that cannot be opened."""

import json

import numpy as np
import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, CorruptFileError, TruncatedFileError, UnsupportedModelError

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def sharded(tmp_path, write_safetensors, tiny_config):
    """Tensors a and b in the first shard, c in the second."""
    values = np.arange(6, dtype="<f4")
    raw = {name: ("F32", [2], values[i * 2 : i * 2 + 2].tobytes()) for i, name in enumerate("abc")}
    write_safetensors(tmp_path / FIRST, {"a": raw["a"], "b": raw["b"]})
    write_safetensors(tmp_path / SECOND, {"c": raw["c"]})
    (tmp_path / "config.json").write_text(json.dumps(tiny_config))
    write_index(tmp_path, {"a": FIRST, "b": FIRST, "c": SECOND})
    return tmp_path


def write_index(folder, weight_map):
    content = {"metadata": {"total_size": 24}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def test_shards_make_one_checkpoint(sharded):
    with open_checkpoint(sharded) as checkpoint:
        assert checkpoint.files == (sharded / FIRST, sharded / SECOND)
        assert list(checkpoint.tensors) == ["a", "b", "c"]
        assert [checkpoint.rows(name, 0, 2).tolist() for name in "abc"] == [[0, 1], [2, 3], [4, 5]]


def test_missing_shard(sharded):
    (sharded / SECOND).unlink()
    with pytest.raises(CheckpointError, match=f"{SECOND} is missing, though .*index.json lists it"):
        open_checkpoint(sharded)


def test_truncated_shard(sharded):
    (sharded / SECOND).write_bytes((sharded / SECOND).read_bytes()[:-1])
    with pytest.raises(TruncatedFileError, match=f"{SECOND} is truncated: tensor 'c'"):
        open_checkpoint(sharded)


def test_tensor_not_where_the_index_says(sharded):
    write_index(sharded, {"a": FIRST, "b": SECOND, "c": SECOND})
    with pytest.raises(CorruptFileError, match=r"'b' in model-00002.* does not hold it|'b', which .* does not place"):
        open_checkpoint(sharded)


def test_tensor_the_index_does_not_know(sharded):
    write_index(sharded, {"a": FIRST, "c": SECOND})
    with pytest.raises(CorruptFileError, match=f"{FIRST} holds tensor 'b', which .* does not place there"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("name", ["../x.safetensors", "sub/x.safetensors", "x.bin", 7, "a\0.safetensors"])
def test_index_must_not_lead_elsewhere(sharded, name):
    write_index(sharded, {"a": name})
    with pytest.raises(CorruptFileError, match="no safetensors file name"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("weight_map", [{}, [], None, "a"])
def test_index_without_a_map(sharded, weight_map):
    write_index(sharded, weight_map)
    with pytest.raises(CorruptFileError, match="no weight_map"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff", '{"model_type": "llama", "model_type": "qwen2"}'])
def test_corrupt_config(sharded, content):
    (sharded / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CorruptFileError, match=r"config\.json"):
        open_checkpoint(sharded)


def test_quantized_weights_are_refused(sharded, tiny_config):
    quantized = {**tiny_config, "quantization_config": {"quant_method": "awq", "bits": 4}}
    (sharded / "config.json").write_text(json.dumps(quantized))
    with pytest.raises(UnsupportedModelError, match=r"quantized already \(awq\)"):
        open_checkpoint(sharded)


def test_no_config(sharded):
    (sharded / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"weights but no config\.json"):
        open_checkpoint(sharded)


def test_pytorch_weights_get_a_way_out(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"found: config\.json, pytorch_model\.bin") as caught:
        open_checkpoint(tmp_path)
    assert "safe_serialization=True" in caught.value.hint
    assert "model.safetensors.index.json" in caught.value.hint


def test_empty_folder_and_missing_path(tmp_path):
    with pytest.raises(CheckpointError, match="found: nothing"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"there is no .*nowhere"):
        open_checkpoint(tmp_path / "nowhere")


def test_a_lone_weight_file_points_at_its_folder(tiny_folder):
    with pytest.raises(CheckpointError, match=r"without its config\.json") as caught:
        open_checkpoint(tiny_folder / "model.safetensors")
    assert str(tiny_folder) in caught.value.hint


def test_some_other_file(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"notes\.txt is no GGUF file"):
        open_checkpoint(tmp_path / "notes.txt")


def test_folder_with_one_gguf_and_with_two(tiny_gguf):
    folder = tiny_gguf.parent
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.format == "gguf"
        assert checkpoint.files == (tiny_gguf,)
    (folder / "other.gguf").write_bytes(tiny_gguf.read_bytes())
    with pytest.raises(CheckpointError, match=r"2 \.gguf files: other\.gguf, tiny\.gguf"):
        open_checkpoint(folder)


def test_a_gguf_file_is_known_by_its_content(tiny_gguf):
    renamed = tiny_gguf.rename(tiny_gguf.with_name("model_part_0000"))
    with open_checkpoint(renamed) as checkpoint:
        assert checkpoint.format == "gguf"
