"""Checkpoint weights: every tensor is used, shapes are checked, GGUF's interleaved q and k are reordered."""

from __future__ import annotations

from pathlib import Path

import gguf
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


def test_tensors_are_checked(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    del tensors["model.norm.weight"]
    with pytest.raises(TensorMismatchError, match=r"lacks 1 tensor \(model.norm.weight\)"):
        source(tmp_path, "llama", tensors)


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

    def check_readable(self, info: TensorInfo) -> None:
        return

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


def test_a_qwen3_gguf_has_the_tensors_of_its_hugging_face_checkpoint(tmp_path: Path) -> None:
    """Written with the gguf package under llama.cpp's names; q and k are not interleaved."""
    config = tiny_config("qwen3")
    tensors, spec = random_tensors(config), spec_from_config(config)
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "qwen3")
    writer.add_block_count(spec.num_layers)
    writer.add_context_length(spec.context_length)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_feed_forward_length(spec.intermediate_size)
    writer.add_head_count(spec.num_heads)
    writer.add_head_count_kv(spec.num_kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_layer_norm_rms_eps(spec.rms_norm_eps)
    writer.add_rope_freq_base(1000000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(64)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, spec.num_layers)
    for name, w in tensors.items():
        writer.add_tensor(names.get_name(name, (".weight",)), w)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_checkpoint(tmp_path / "tiny.gguf") as opened:
        found = spec_from_config(opened.config)
        assert found.layers == spec.layers
        assert (found.head_dim, found.model_type) == (64, "qwen3")
        assert (found.rope.scaling, found.rope.theta, found.rope.original_context) == ("yarn", 1000000.0, 64)
        weights = CheckpointWeights(opened, found)
        for ref in spec.tensors():
            np.testing.assert_array_equal(weights.rows(ref, 0, ref.shape[0]), tensors[ref.name])
