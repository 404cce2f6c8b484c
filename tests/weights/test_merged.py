"""Adapters merged into a checkpoint's rows: linears, embeddings, whole tensors, DoRA, GGUF's order, tied models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
from tiny_awq import TinyAwq
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint
from tiny_lora import factors, merged_linear, write_adapter

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.base import Checkpoint
from edgekit.checkpoint.lora import LoraAdapter
from edgekit.errors import NonFiniteWeightError, TensorMismatchError, UnsupportedModelError
from edgekit.models import spec_from_config
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.weights.merged import MergedCheckpoint

Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"


@contextmanager
def merging(checkpoint: Path, *adapters: Path) -> Iterator[MergedCheckpoint]:
    opened = [LoraAdapter(folder) for folder in adapters]
    try:
        with open_checkpoint(checkpoint) as base:
            yield MergedCheckpoint(base, opened)
    finally:
        for adapter in opened:
            adapter.close()


def every_weight(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """All tensors of the model, read in uneven pieces."""
    spec = spec_from_config(checkpoint.config)
    weights = CheckpointWeights(checkpoint, spec)
    found = {}
    for ref in spec.tensors():
        cuts = [0, *sorted({min(n, ref.shape[0]) for n in (7, 50, ref.shape[0])})]
        pieces = [weights.rows(ref, a, b).astype(np.float32) for a, b in pairwise(cuts)]
        found[ref.name] = np.concatenate(pieces)
    return found


def assert_merged(found: dict[str, np.ndarray], plain: dict[str, np.ndarray], changed: dict[str, np.ndarray]) -> None:
    for name, values in found.items():
        np.testing.assert_allclose(values, {**plain, **changed}[name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["", "default", "my_adapter"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_linears(tmp_path: Path, name: str, dtype: Any) -> None:
    plain = random_tensors(tiny_config("qwen2"))
    folder = write_checkpoint(tmp_path / "base", "qwen2", plain)
    q, down = factors(Q, 144, 144, name=name, dtype=dtype), factors(DOWN, 144, 200, name=name, seed=1, dtype=dtype)
    adapter = write_adapter(tmp_path / "adapter", q | down)
    expected = {
        f"{module}.weight": merged_linear(plain[f"{module}.weight"], *found.values(), scale=4)
        for module, found in ((Q, q), (DOWN, down))
    }
    with merging(folder, adapter) as merged:
        assert_merged(every_weight(merged), plain, expected)
        assert merged.rows(f"{Q}.weight", 3, 3).shape == (0, 144)
        assert "merged into 2 tensors" in merged.notes[0]
        assert "was trained on someone/base; it is merged into base" not in " ".join(merged.notes)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"use_rslora": True}, 16 / 2),
        ({"lora_alpha": 1}, 0.25),
        ({"lora_alpha": None}, 2),
        ({"alpha_pattern": {"q_proj": 8}}, 2),
        ({"alpha_pattern": {r"layers\.0\.self_attn\.q_proj": 8, "q_proj": 12}}, 2),
        ({"alpha_pattern": {"proj": 8}}, 4),
        ({"r": 8, "rank_pattern": {"model.layers.0.self_attn.q_proj": 4}}, 4),
        ({"fan_in_fan_out": True}, 4),
    ],
)
def test_the_scale(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    plain = random_tensors(tiny_config("qwen2"))
    folder = write_checkpoint(tmp_path / "base", "qwen2", plain)
    q = factors(Q, 144, 144)
    with merging(folder, write_adapter(tmp_path / "adapter", q, **config)) as merged:
        expected = merged_linear(plain[f"{Q}.weight"], *q.values(), scale=scale)
        np.testing.assert_allclose(merged.rows(f"{Q}.weight", 0, 144), expected, atol=1e-6)


def test_embedding_head_and_whole_tensors(tmp_path: Path) -> None:
    config = tiny_config("qwen2")
    plain, vocab = random_tensors(config), config["vocab_size"]
    folder = write_checkpoint(tmp_path / "base", "qwen2", plain)
    rng = np.random.default_rng(3)
    table = {
        f"{EMBEDDING}.lora_embedding_A": rng.standard_normal((4, vocab)).astype(np.float32),
        f"{EMBEDDING}.lora_embedding_B": rng.standard_normal((144, 4)).astype(np.float32),
    }
    norm, bias = rng.standard_normal(144).astype(np.float32), rng.standard_normal(144).astype(np.float32)
    head = rng.standard_normal((vocab, 144)).astype(np.float32)
    whole = {"model.norm.weight": norm, f"{Q}.base_layer.bias": bias, f"{HEAD}.modules_to_save.default.weight": head}
    adapter = write_adapter(tmp_path / "adapter", table | whole)
    a, b = table.values()
    with merging(folder, adapter) as merged:
        expected = {
            f"{EMBEDDING}.weight": plain[f"{EMBEDDING}.weight"] + 4 * (b.astype(float) @ a.astype(float)).T,
            "model.norm.weight": norm,
            f"{Q}.bias": bias,
            f"{HEAD}.weight": head,
        }
        assert_merged(every_weight(merged), plain, expected)


@pytest.mark.parametrize("vector", ["lora_magnitude_vector", "lora_magnitude_vector.default.weight"])
def test_dora(tmp_path: Path, vector: str) -> None:
    plain = random_tensors(tiny_config("qwen2"))
    folder = write_checkpoint(tmp_path / "base", "qwen2", plain)
    q = factors(Q, 144, 144)
    lengths = np.random.default_rng(4).uniform(0.5, 2, 144).astype(np.float32)
    adapter = write_adapter(tmp_path / "adapter", q | {f"{Q}.{vector}": lengths}, use_dora=True)
    w = merged_linear(plain[f"{Q}.weight"], *q.values(), scale=4)
    expected = {f"{Q}.weight": lengths[:, None] * w / np.sqrt((w**2).sum(1, keepdims=True))}
    with merging(folder, adapter) as merged:
        assert_merged(every_weight(merged), plain, expected)


def test_several_adapters_add_up(tmp_path: Path) -> None:
    plain = random_tensors(tiny_config("qwen2"))
    folder = write_checkpoint(tmp_path / "base", "qwen2", plain)
    first, second = factors(Q, 144, 144), factors(Q, 144, 144, rank=2, seed=9)
    adapters = [
        write_adapter(tmp_path / "first", first), write_adapter(tmp_path / "second", second, r=2),
    ]  # fmt: skip
    w = merged_linear(plain[f"{Q}.weight"], *first.values(), scale=4)
    with merging(folder, *adapters) as merged:
        expected = {f"{Q}.weight": merged_linear(w, *second.values(), scale=8)}
        assert_merged(every_weight(merged), plain, expected)
        assert merged.files == (folder / "model.safetensors",)
        assert [adapter.folder for adapter in merged.adapters] == adapters


@pytest.mark.parametrize("changed", [EMBEDDING, HEAD])
def test_a_tied_model_gets_a_head_of_its_own(tmp_path: Path, changed: str) -> None:
    """What was trained changes only one of the two uses of the table."""
    config = tiny_config("llama")
    plain, vocab = random_tensors(config), config["vocab_size"]
    folder = write_checkpoint(tmp_path / "base", "llama", plain)
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((4, vocab)).astype(np.float32), rng.standard_normal((144, 4)).astype(np.float32)
    embedding = {f"{EMBEDDING}.lora_embedding_A": a, f"{EMBEDDING}.lora_embedding_B": b}
    head = {f"{HEAD}.lora_A.weight": np.ascontiguousarray(b.T), f"{HEAD}.lora_B.weight": np.ascontiguousarray(a.T)}
    adapter = write_adapter(tmp_path / "adapter", embedding if changed == EMBEDDING else head)
    table = plain[f"{EMBEDDING}.weight"]
    new = table + 4 * (b.astype(float) @ a.astype(float)).T
    with merging(folder, adapter) as merged:
        found = every_weight(merged)
        assert merged.config["tie_word_embeddings"] is False
        np.testing.assert_allclose(found[f"{changed}.weight"], new, atol=1e-5)
        np.testing.assert_array_equal(found[f"{EMBEDDING if changed == HEAD else HEAD}.weight"], table)
        assert any("one table" in note for note in merged.notes)


def write_gguf(path: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    """A llama file, whose q and k rows are interleaved as llama.cpp's converter does it."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(256)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(config["vocab_size"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for ref in spec_from_config(config).tensors():
        values = tensors[ref.name]
        role = ref.name.split(".")[-2]
        if role in heads:
            n = heads[role]
            shape = values.shape
            values = values.reshape(n, 2, shape[0] // n // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
        writer.add_tensor(ref.gguf, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_with_interleaved_rows(tmp_path: Path) -> None:
    config = tiny_config("llama", tie_word_embeddings=False)
    plain = random_tensors(config)
    path = write_gguf(tmp_path / "base.gguf", config, plain)
    k = "model.layers.1.self_attn.k_proj"
    parts = {Q: factors(Q, 144, 144), k: factors(k, 48, 144, seed=2), DOWN: factors(DOWN, 144, 200, seed=3)}
    adapter = write_adapter(tmp_path / "adapter", {n: t for found in parts.values() for n, t in found.items()})
    expected = {
        f"{module}.weight": merged_linear(plain[f"{module}.weight"], *found.values(), scale=4)
        for module, found in parts.items()
    }
    with merging(path, adapter) as merged:
        assert_merged(every_weight(merged), plain, expected)


def test_an_adapter_of_the_model_without_its_head(tmp_path: Path) -> None:
    plain = random_tensors(tiny_config("qwen2"))
    folder = write_checkpoint(tmp_path / "base", "qwen2", plain)
    short = Q.removeprefix("model.")
    q = factors(short, 144, 144)
    with merging(folder, write_adapter(tmp_path / "adapter", q)) as merged:
        expected = {f"{Q}.weight": merged_linear(plain[f"{Q}.weight"], *q.values(), scale=4)}
        assert_merged(every_weight(merged), plain, expected)


def test_another_base_model_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "base", "qwen2")
    q = factors(Q, 144, 144)
    other = write_adapter(tmp_path / "other", q, base_model_name_or_path="someone/another-model")
    with merging(folder, other) as merged:
        assert any("was trained on someone/another-model; it is merged into base" in note for note in merged.notes)


def test_a_chat_template_in_the_adapters_folder_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "base", "qwen2")
    adapter = write_adapter(tmp_path / "adapter", factors(Q, 144, 144))
    (adapter / "chat_template.jinja").write_bytes((folder / "chat_template.jinja").read_bytes())
    with merging(folder, adapter) as merged:
        assert "chat template" not in " ".join(merged.notes)
    (adapter / "chat_template.jinja").unlink()
    (adapter / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    with merging(folder, adapter) as merged:
        assert any("has a chat template of its own" in note for note in merged.notes)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            factors("model.layers.7.self_attn.q_proj", 144, 144),
            r"1 tensor that the model does not have: model.layers.7",
        ),
        (factors("model.layers.0.self_attn.W_pack", 144, 144), r"does not have.*trained on someone/base"),
        (factors(Q, 144, 96), r"q_proj.weight with shape \[144, 96\]; the model's has \[144, 144\]"),
        ({"model.norm.weight": np.ones(96, np.float32)}, r"norm.weight with shape \[96\]"),
        ({f"{DOWN}.bias": np.ones(144, np.float32)}, "down_proj.bias"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, tensors: dict[str, np.ndarray], words: str) -> None:
    folder = write_checkpoint(tmp_path / "base", "qwen2")
    adapter = write_adapter(tmp_path / "adapter", tensors)
    with pytest.raises(TensorMismatchError, match=words), merging(folder, adapter):
        pass


def test_codes_are_not_changed(tmp_path: Path) -> None:
    folder = TinyAwq().write(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", factors(Q, 128, 128))
    refused = pytest.raises(UnsupportedModelError, match="codes of this AWQ checkpoint are copied unchanged")
    with refused as caught, merging(folder, adapter):
        pass
    assert "float checkpoint" in caught.value.hint


def test_an_adapter_that_is_not_finite(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "base", "qwen2")
    q = factors(Q, 144, 144)
    q[f"{Q}.lora_B.weight"][5, 1] = np.nan
    with merging(folder, write_adapter(tmp_path / "adapter", q)) as merged:
        assert np.isfinite(merged.rows(f"{Q}.weight", 0, 5)).all()
        with pytest.raises(NonFiniteWeightError, match=r"q_proj.weight with .*adapter merged holds nan at \[5, 0\]"):
            merged.rows(f"{Q}.weight", 0, 8)
