"""GGUF files that hold no language model are told by their own marks."""

import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, UnsupportedModelError

TENSOR = ("F32", (4,), bytes(16))


@pytest.mark.parametrize(
    ("metadata", "tensors", "words", "hint"),
    [
        (
            {"general.type": "adapter", "adapter.type": "lora"},
            {"blk.0.attn_q.weight.lora_a": TENSOR},
            "adapter",
            "--lora",
        ),
        ({"general.architecture": "llama"}, {"blk.0.attn_q.weight.lora_a": TENSOR}, "a LoRA adapter", "--lora"),
        ({"general.architecture": "clip"}, {"v.patch_embd.weight": TENSOR}, "mmproj", "language model's own"),
        ({"general.type": "mmproj", "general.architecture": "clip"}, {"mm.0.weight": TENSOR}, "mmproj", "language"),
        ({"general.type": "imatrix"}, {"blk.0.attn_q.weight.in_sum2": TENSOR}, "importance matrix", "model's own"),
        ({}, {"blk.0.attn_q.weight.in_sum2": TENSOR}, "importance matrix", "model's own"),
        ({"general.architecture": "controlvector"}, {"direction.1": TENSOR}, "a control vector", "model's own"),
        ({"general.architecture": "llama"}, {}, "a vocabulary without weights", "holds the weights"),
        ({"general.architecture": ["llama", "x"], "general.type": ["a"]}, {"x": TENSOR}, "lacks the metadata key", ""),
        ({}, {"x": TENSOR}, "lacks the metadata key general.architecture", ""),
    ],
)
def test_what_is_no_model_is_named(tmp_path, write_gguf, metadata, tensors, words, hint):
    path = write_gguf(tmp_path / "x.gguf", metadata, tensors)
    with pytest.raises(CheckpointError, match=words) as caught:
        open_checkpoint(path)
    assert hint in caught.value.hint
    assert isinstance(caught.value, UnsupportedModelError) is bool(hint)


def test_the_base_model_of_an_adapter_is_named(tmp_path, write_gguf):
    metadata = {"general.type": "adapter", "general.base_model.0.name": "Some Model 1B"}
    with pytest.raises(UnsupportedModelError, match="adapter, not a model; its base model is Some Model 1B"):
        open_checkpoint(write_gguf(tmp_path / "x.gguf", metadata, {"a.lora_a": TENSOR}))
