"""Hugging Face folders: shards and their index."""

import json

import numpy as np
import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, CorruptFileError, TruncatedFileError

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
    with pytest.raises(CheckpointError, match=f"{SECOND} is missing, but .*index.json lists it"):
        open_checkpoint(sharded)


def test_truncated_shard(sharded):
    (sharded / SECOND).write_bytes((sharded / SECOND).read_bytes()[:-1])
    with pytest.raises(TruncatedFileError, match=f"{SECOND} is truncated: tensor 'c'"):
        open_checkpoint(sharded)


def test_a_tensor_in_another_file_than_the_index_says(sharded):
    write_index(sharded, {"a": FIRST, "b": SECOND, "c": SECOND})
    with pytest.raises(CorruptFileError, match=f"{FIRST} contains 1 tensors that .* does not place there; first: 'b'"):
        open_checkpoint(sharded)


def test_a_tensor_that_the_index_does_not_list(sharded):
    write_index(sharded, {"a": FIRST, "c": SECOND})
    with pytest.raises(CorruptFileError, match=f"{FIRST} contains 1 tensors that .* does not place there; first: 'b'"):
        open_checkpoint(sharded)


def test_a_tensor_that_is_not_in_its_file(sharded):
    write_index(sharded, {"a": FIRST, "b": FIRST, "c": SECOND, "d": SECOND, "e": SECOND})
    with pytest.raises(CorruptFileError, match=f"places 2 tensors in {SECOND} that are not there; first: 'd'"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("name", ["../x.safetensors", "sub/x.safetensors", "x.bin", 7, "a\0.safetensors"])
def test_index_must_not_lead_elsewhere(sharded, name):
    write_index(sharded, {"a": name})
    with pytest.raises(CorruptFileError, match="not the name of a safetensors file"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("weight_map", [{}, [], None, "a"])
def test_index_without_a_map(sharded, weight_map):
    write_index(sharded, weight_map)
    with pytest.raises(CorruptFileError, match="no weight_map"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("content", ["{", "[]", "\xff", '{"model_type": "llama", "model_type": "qwen2"}'])
def test_corrupt_config(sharded, content):
    (sharded / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CorruptFileError, match=r"config\.json"):
        open_checkpoint(sharded)


def test_a_models_own_code_is_named(tiny_folder, tiny_config):
    for named, notes in (({"AutoModelForCausalLM": "modeling_x.XForCausalLM"}, 1), ({"AutoConfig": "x.X"}, 0), ([], 0)):
        (tiny_folder / "config.json").write_text(json.dumps({**tiny_config, "auto_map": named}))
        with open_checkpoint(tiny_folder) as checkpoint:
            assert len(checkpoint.notes) == notes
            assert all("(modeling_x.XForCausalLM), which is not run" in note for note in checkpoint.notes)
