"""Folders and files of other software are told by their names, with what to give instead."""

import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.foreign import FILES, FIRST, FOLDERS
from edgekit.errors import CheckpointError


@pytest.mark.parametrize(
    ("names", "words", "hint"),
    [
        (["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"], "an adapter, not a model", "--lora"),
        (["adapter_config.json", "adapter_model.bin", "config.json"], "an adapter, not a model", "--lora"),
        (["config.json", "model.onnx", "model.onnx.data"], "an ONNX model", "was made from"),
        (["genai_config.json", "x.onnx"], "an ONNX model", "was made from"),
        (["openvino_model.bin", "openvino_model.xml", "config.json"], "an OpenVINO model", "was made from"),
        (["config.json", "rank0.engine"], "a TensorRT engine", "was made from"),
        (["mlc-chat-config.json", "params_shard_0.bin"], "a model compiled by MLC", "was made from"),
        (["weights.00.npz", "config.json"], "MLX weights in numpy's format", "was made from"),
        (["flax_model.msgpack", "config.json"], "weights for Flax", "was made from"),
        (["tf_model.h5", "config.json"], "weights for TensorFlow", "was made from"),
        (["params.json", "consolidated.00.pth", "tokenizer.model"], "Meta's own format", "-hf"),
        (["zero_to_fp32.py", "latest"], "the checkpoint of a training run", "zero_to_fp32.py"),
        (["manifests", "blobs"], "Ollama's models", "ollama show --modelfile"),
        (["sha256-0123", "sha256-4567"], "Ollama's models", "ollama show --modelfile"),
        (["pytorch_model.bin", "config.json"], "PyTorch's pickled weights", "safe_serialization=True"),
        (["model.pt"], "PyTorch's pickled weights", "safe_serialization=True"),
        (["model.mlpackage"], "a Core ML model", "was made from"),
        (["ggml-model-q4_0.bin"], "in the format before GGUF", "GGUF"),
        (["model.gguf-split-a", "model.gguf-split-b"], "a GGUF file in pieces", "cat model.gguf"),
        (["notes.txt"], "no weights that edgekit can open; found: notes.txt", "model.safetensors.index.json"),
    ],
)
def test_folders(tmp_path, names, words, hint):
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=words) as caught:
        open_checkpoint(tmp_path)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("edgekit.json", "is an edgekit artifact", "edgekit run"),
        ("model_index.json", "a pipeline for images", "write text"),
    ],
)
def test_some_marks_decide_whatever_weights_there_are(tiny_folder, name, words, hint):
    (tiny_folder / name).write_text("{}")
    with pytest.raises(CheckpointError, match=words) as caught:
        open_checkpoint(tiny_folder)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "words", "hint"),
    [
        ("adapter_model.safetensors", b"x", "an adapter, not a model", "--lora"),
        ("model.onnx", b"\x08\x07", "an ONNX model", "was made from"),
        ("pytorch_model.bin", b"PK\x03\x04", "PyTorch's pickled weights", "safe_serialization=True"),
        ("model", b"PK\x03\x04", "PyTorch's pickled weights, or an archive", "safe_serialization=True"),
        ("old", b"tjgg\x01\0\0\0", "in the format before GGUF", "GGUF"),
        ("Modelfile", b"FROM llama3", "Ollama's description of a model", "after FROM"),
        ("mine", b"FROM ./model.gguf", "Ollama's description of a model", "after FROM"),
        ("model.gguf.part2of2", b"xx", "not a whole GGUF file", "cat model.gguf* > joined.gguf"),
        ("config.json", b"{}", "is not a checkpoint", "give its folder"),
        ("recipe.toml", b"title = 1", "a recipe, not a checkpoint", "MODEL"),
        ("model.llamafile", b"MZqFpD", "an llamafile", "unzip"),
        ("model.zip", b"PK\x03\x04", "an archive", "unpack"),
    ],
)
def test_files(tmp_path, name, content, words, hint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        open_checkpoint(tmp_path / name)
    assert hint in caught.value.hint


def test_a_hub_cache_and_a_training_run_name_the_folders_inside(tmp_path, tiny_folder):
    for place in ("cache/snapshots/abc", "run/checkpoint-500"):
        folder = tmp_path / place
        folder.parent.mkdir(parents=True)
        folder.symlink_to(tiny_folder)
        root = tmp_path / place.split("/")[0]
        (root / "blobs").mkdir()
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(root)
        assert str(folder) in caught.value.hint


def test_every_kind_has_a_next_step():
    for kind in (*FIRST, *FOLDERS, *FILES):
        assert kind.what
        assert kind.marks
        assert kind.hint
