"""Which files of a folder are its weights, and indexes that do not belong to them."""

import json

import numpy as np
import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.shards import WeightFiles, complete_sets, find_weight_files
from edgekit.errors import CheckpointError, CorruptFileError

A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors", "config.json"], WeightFiles(("model.safetensors",))),
        (["model.safetensors", INDEX, A, B], WeightFiles(("model.safetensors",), unused=(A, B))),
        ([INDEX, A, B, "x.gguf"], WeightFiles((), INDEX, (A, B, "x.gguf"))),
        (["x.safetensors.index.json", A], WeightFiles((), "x.safetensors.index.json", (A,))),
        (["gptq_model-4bit.safetensors"], WeightFiles(("gptq_model-4bit.safetensors",))),
        ([B, A, "notes.txt"], WeightFiles((A, B))),
        ([B, A, "consolidated.safetensors"], WeightFiles((A, B), unused=("consolidated.safetensors",))),
        (
            ["x.safetensors", "adapter_model.safetensors"],
            WeightFiles(("x.safetensors",), None, ("adapter_model.safetensors",)),
        ),
        (["adapter_model.safetensors"], None),
        ([B, "model-00003-of-00003.safetensors"], None),
        (["x.safetensors", "y.safetensors"], None),
        ([], None),
    ],
)
def test_weight_files(names, expected):
    assert find_weight_files(names) == expected


def test_complete_sets():
    others = ["y-00002-of-00002.safetensors", "z-00001-of-00001.safetensors"]
    assert complete_sets([B, A, *others]) == [[A, B], ["z-00001-of-00001.safetensors"]]


@pytest.fixture
def shards(tmp_path, write_safetensors, tiny_config):
    """A folder with tensors a and b in two files, and no index."""
    for name, tensor in ((A, "a"), (B, "b")):
        write_safetensors(tmp_path / name, {tensor: ("F32", [2], np.ones(2, "<f4").tobytes())})
    (tmp_path / "config.json").write_text(json.dumps(tiny_config))
    return tmp_path


def test_a_complete_set_needs_no_index(shards, write_safetensors):
    with open_checkpoint(shards) as checkpoint:
        assert checkpoint.files == (shards / A, shards / B)
        assert list(checkpoint.tensors) == ["a", "b"]
    write_safetensors(shards / B, {"a": ("F32", [2], bytes(8))})
    with pytest.raises(CorruptFileError, match="repeats tensors of other files; first: 'a'"):
        open_checkpoint(shards)


def test_weight_files_that_are_not_used_are_named(shards):
    (shards / A).rename(shards / "model.safetensors")
    (shards / "adapter_model.safetensors").write_bytes(b"x")
    with open_checkpoint(shards) as checkpoint:
        (note,) = checkpoint.notes
    assert note.startswith(
        "not used, because model.safetensors holds the model: adapter_model.safetensors, model-00002"
    )
    assert "--lora" in note


def test_weight_files_that_the_index_does_not_list_are_named(shards):
    (shards / INDEX).write_text(json.dumps({"weight_map": {"a": A, "b": B}}))
    with open_checkpoint(shards) as checkpoint:
        assert checkpoint.notes == ()
    for name in ("adapter_model.safetensors", "model-00003-of-00003.safetensors", "model-Q8_0.gguf"):
        (shards / name).write_bytes(b"x")
    with open_checkpoint(shards) as checkpoint:
        (note,) = checkpoint.notes
    assert note.startswith(f"not used, because {INDEX} does not list them: adapter_model.safetensors, model-00003-of-0")
    assert "model-Q8_0.gguf; --lora" in note


def write_index(folder, *names):
    (folder / INDEX).write_text(json.dumps({"weight_map": {f"t{i}": name for i, name in enumerate(names)}}))


def test_a_stale_index_is_told_from_an_incomplete_download(shards):
    write_index(shards, *(f"model-{i:05}-of-00030.safetensors" for i in range(1, 31)))
    with pytest.raises(CheckpointError, match=f"does not belong .* complete set {A}, {B}") as caught:
        open_checkpoint(shards)
    assert "it lists 30 files (model-00001-of-00030.safetensors, " in caught.value.message
    assert "or remove it" in caught.value.hint
    (shards / INDEX).unlink()
    with open_checkpoint(shards):
        pass


def test_an_index_of_another_revision(shards):
    (shards / B).rename(shards / "other.safetensors")
    write_index(shards, "x-00001-of-00002.safetensors", "x-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"2 of 2 files .* missing: x-00001.*The folder holds .*other") as caught:
        open_checkpoint(shards)
    assert "of another revision" in caught.value.message


def test_files_that_are_missing_are_all_named(shards):
    write_index(shards, A, B, "model-00003-of-00002.safetensors", "model-00004-of-00002.safetensors")
    (shards / "model-00003-of-00002.safetensors.part").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"2 of 4 files .* missing: model-00003.*, model-00004.*; found .*\.part"):
        open_checkpoint(shards)
