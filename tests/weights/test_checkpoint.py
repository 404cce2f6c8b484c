"""Checkpoint weights: every tensor is used, shapes are checked, GGUF's interleaved q and k are reordered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.base import TensorInfo
from edgekit.errors import TensorMismatchError
from edgekit.models import spec_from_config
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.weights.source import WeightSource


def source(folder: Path, family: str, tensors: dict[str, np.ndarray]) -> WeightSource:
    opened = open_checkpoint(write_checkpoint(folder, family, tensors))
    return CheckpointWeights(opened, spec_from_config(opened.config))


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    for i in range(2):
        del tensors[f"model.layers.{i}.mlp.up_proj.weight"]
    with pytest.raises(TensorMismatchError, match=r"lacks 2 tensors \(model.layers.0.mlp.up_proj.weight, "):
        source(tmp_path, "llama", tensors)


def test_surplus_tensors_are_named(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama")) | {"model.layers.0.self_attn.q_proj.bias": np.zeros(144, np.float32)}
    with pytest.raises(TensorMismatchError, match=r"holds 1 tensor \(model.layers.0.self_attn.q_proj.bias\)"):
        source(tmp_path, "llama", tensors)


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("qwen2"))
    tensors["model.layers.1.mlp.down_proj.weight"] = np.zeros((144, 199), np.float32)
    with pytest.raises(TensorMismatchError, match=r"down_proj.weight has shape \[144, 199\].*implies \[144, 200\]"):
        source(tmp_path, "qwen2", tensors)


def test_derived_and_duplicate_tensors_are_passed_over(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(24, np.float32)
    found = source(tmp_path, "llama", tensors)
    table = spec_from_config(tiny_config("llama")).embedding
    np.testing.assert_array_equal(found.rows(table, 3, 9), tensors["model.embed_tokens.weight"][3:9])


class _Gguf:
    """A GGUF checkpoint of one q_proj whose heads' halves are interleaved, as llama.cpp's converter writes them."""

    format = "gguf"
    files = (Path("model.gguf"),)

    def __init__(self, spec, tensors: dict[str, np.ndarray]) -> None:
        self._stored = {}
        for ref in spec.tensors():
            w = tensors[ref.name]
            if ref.interleaved_heads:
                w = w.reshape(ref.interleaved_heads, 2, -1, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
            self._stored[ref.gguf] = w
        self.tensors = {
            name: TensorInfo(name, "float32", w.shape, self.files[0], 0, w.nbytes) for name, w in self._stored.items()
        }

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._stored[name][start:stop]


@pytest.mark.parametrize("bias", [False, True])
def test_interleaved_heads_are_put_in_order(bias: bool) -> None:
    config = tiny_config("llama", num_attention_heads=3, head_dim=48, attention_bias=bias)
    spec, tensors = spec_from_config(config), random_tensors(config)
    weights = CheckpointWeights(_Gguf(spec, tensors), spec)  # type: ignore[arg-type]
    for ref in spec.tensors():
        rows = ref.shape[0]
        for start, stop in ((0, rows), (1, rows), (rows // 3 + 5, rows - 3)):
            np.testing.assert_array_equal(weights.rows(ref, start, stop), tensors[ref.name][start:stop])
