"""Every tensor of a checkpoint is used, known to change nothing, or a reason to refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config

from edgekit.checkpoint.base import TensorInfo
from edgekit.errors import CheckpointError, TensorMismatchError
from edgekit.models import spec_from_config
from edgekit.weights.tensors import check_tensors

LAYER = "model.layers.0"


class Listed:
    """A checkpoint whose tensors are listed; biases can be read."""

    format = "huggingface"
    files = (Path("model.safetensors"),)

    def __init__(self, shapes: dict[str, tuple[int, ...]], nonzero: bool, gguf: bool) -> None:
        self.tensors = {n: TensorInfo(n, "float32", s, self.files[0], 0, 4 * math.prod(s)) for n, s in shapes.items()}
        self._value = float(nonzero)
        if gguf:
            self.format = "gguf"

    def check_readable(self, info: TensorInfo) -> None:
        if info.dtype != "float32":
            raise CheckpointError(f"{info.name} has type {info.dtype}")

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        assert name.endswith(".bias"), "only biases are read"
        return np.full(stop - start, self._value, np.float32)


def checked(
    more: dict[str, tuple[int, ...]] | None = None,
    *,
    family: str = "llama",
    without: tuple[str, ...] = (),
    rename: Any = None,
    nonzero: bool = True,
    gguf: bool = False,
    **changes: Any,
) -> tuple[str, ...]:
    """Check a model's own tensors with some more, without some, or under other names."""
    spec = spec_from_config(tiny_config(family, **changes))
    shapes = {ref.gguf if gguf else ref.name: ref.shape for ref in spec.tensors()}
    shapes = {(rename(name) if rename else name): shape for name, shape in shapes.items() if name not in without}
    listed: Any = Listed(shapes | (more or {}), nonzero, gguf)
    return check_tensors(listed, spec)


@pytest.mark.parametrize("gguf", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_models_own_tensors_need_no_note(family: str, gguf: bool) -> None:
    assert checked(family=family, gguf=gguf) == ()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{LAYER}.self_attn.rotary_emb.inv_freq", (24,)),
        (f"{LAYER}.self_attn.rotary_emb.cos_cached", (1, 1, 256, 48)),
        ("model.rotary_emb.inv_freq", (24,)),
        (f"{LAYER}.attn.masked_bias", ()),
        (f"{LAYER}.attn.bias", (1, 1, 256, 256)),
        ("lm_head.weight", (261, 144)),
    ],
)
def test_what_config_json_implies_is_passed_over(name: str, shape: tuple[int, ...]) -> None:
    assert checked({name: shape}) == ()


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["model.mtp_layers.0.eh_proj.weight"], "a head that predicts several tokens"),
        (["model.layers.2.eh_proj.weight", "model.layers.2.mlp.up_proj.weight"], "a head that predicts several tokens"),
        (["vision_tower.blocks.0.attn.qkv.weight", "visual.merger.mlp.0.bias"], "a part for images or sound"),
        (["multi_modal_projector.linear_1.weight"], "a part for images or sound"),
        (["v_head.summary.weight"], "a value head, which only training uses"),
        (["medusa_head.0.linear.weight"], "a head for speculative decoding"),
        (
            [f"{LAYER}.self_attn.k_scale", f"{LAYER}.self_attn.v_scale"],
            "scales for a KV cache or activations in 8 bits",
        ),
    ],
)
def test_what_does_not_change_the_text_is_named(names: list[str], what: str) -> None:
    (note,) = checked(dict.fromkeys(names, (4, 4)))
    assert f"not used: {what}" in note
    assert f"{len(names)} tensor" in note
    assert sorted(names)[0] in note


def test_biases_of_zeros_are_named_and_others_refused() -> None:
    names = {f"model.layers.{i}.self_attn.o_proj.bias": (144,) for i in range(2)}
    (note,) = checked(names, family="qwen2", nonzero=False)
    assert note == "2 tensors (model.layers.0.self_attn.o_proj.bias, ...) not used: biases of zeros"
    with pytest.raises(TensorMismatchError, match=r"holds 2 tensors .*o_proj.bias.* and they are not zero"):
        checked(names, family="qwen2")
    with pytest.raises(TensorMismatchError, match=r"this config\.json has no place for") as caught:
        checked(names)
    assert "attention_bias" in caught.value.hint
    with pytest.raises(TensorMismatchError, match=r"holds 1 tensor .output\.bias."):
        checked({"output.bias": (261,)}, gguf=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{LAYER}.self_attn.q_proj.lora_A.weight", "an adapter that is not merged"),
        (f"{LAYER}.self_attn.q_proj.lora_A.default.weight", "an adapter that is not merged"),
        (f"{LAYER}.self_attn.q_proj.base_layer.weight", "an adapter that is not merged"),
        (f"{LAYER}.self_attn.q_norm.weight", "norms of queries and keys"),
        (f"{LAYER}.pre_feedforward_layernorm.weight", "norms after attention and MLP"),
        (f"{LAYER}.mlp.experts.3.gate_proj.weight", "a mixture of experts"),
        (f"{LAYER}.mlp.gate.weight", "a mixture of experts"),
        (f"{LAYER}.block_sparse_moe.gate.weight", "a mixture of experts"),
        (f"{LAYER}.self_attn.sinks", "attention sinks"),
        ("score.weight", "a classifier"),
        (f"{LAYER}.mlp.up_proj.weight_scale", "scales of quantized weights"),
        (f"model.layers.{'9' * 5000}.mlp.up_proj.weight", "that a llama model has no place for"),
        ("model.layers.7.mlp.up_proj.weight", "holds 8 layers, but config.json says num_hidden_layers = 2"),
        (f"{LAYER}.something.else", "that a llama model has no place for"),
    ],
)
def test_what_changes_the_text_is_refused(name: str, words: str) -> None:
    with pytest.raises(TensorMismatchError, match=words) as caught:
        checked({name: (4, 4), "vision_tower.x.weight": (4, 4)})
    assert name in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blk.0.attn_q.weight.lora_a", "an adapter that is not merged"),
        ("blk.0.attn_q_norm.weight", "norms of queries and keys"),
        ("blk.0.ffn_gate_inp.weight", "a mixture of experts"),
        ("blk.0.ffn_up_exps.weight", "a mixture of experts"),
        ("rope_factors_long.weight", "longrope"),
        ("position_embd.weight", "learned positions"),
        ("blk.0.attn_q.scale", "scales of quantized weights"),
        ("blk.9.attn_q.weight", "holds 10 layers"),
        ("cls.output.weight", "a classifier"),
    ],
)
def test_what_changes_the_text_of_a_gguf_file_is_refused(name: str, words: str) -> None:
    with pytest.raises(TensorMismatchError, match=words):
        checked({name: (4, 4)}, gguf=True)
    (note,) = checked({"blk.2.nextn.eh_proj.weight": (4, 4), "blk.2.attn_q.weight": (4, 4)}, gguf=True)
    assert "2 tensors" in note


def test_missing_tensors_are_named() -> None:
    without = tuple(f"model.layers.{i}.mlp.up_proj.weight" for i in range(2))
    with pytest.raises(TensorMismatchError, match=r"lacks 2 tensors \(model.layers.0.mlp.up_proj.weight, ") as caught:
        checked(without=without)
    assert "incomplete" in caught.value.hint


def test_a_missing_head_says_what_transformers_does() -> None:
    for gguf, name in ((False, "lm_head.weight"), (True, "output.weight")):
        with pytest.raises(TensorMismatchError, match=rf"lacks 1 tensor \({name}\)") as caught:
            checked(without=(name,), tie_word_embeddings=False, gguf=gguf)
        assert "tie_word_embeddings = false" in caught.value.hint
        assert "at random" in caught.value.hint


@pytest.mark.parametrize(
    ("rename", "message", "hint"),
    [
        (lambda n: f"_orig_mod.{n}", "begin with '_orig_mod.'", "save the model that is inside"),
        (lambda n: f"base_model.model.{n}", "begin with 'base_model.model.'", "--lora FOLDER"),
        (lambda n: f"language_model.{n}", "begin with 'language_model.'", "text and images"),
        (lambda n: n.replace("model.", "model.language_model."), "lacks", "text and images"),
        (lambda n: n.removeprefix("model."), "lacks", "base model without lm_head"),
        (lambda n: n.replace(".layers.", ".h."), "lacks", "incomplete"),
        (lambda n: n.replace("model.layers.0.self_attn.q_proj", "layers.0.attention.wq"), "lacks", "another format"),
    ],
)
def test_other_names_are_explained(rename: Any, message: str, hint: str) -> None:
    with pytest.raises(TensorMismatchError, match=message) as caught:
        checked(rename=rename)
    assert hint in caught.value.hint


def test_fewer_layers_than_config_json_says() -> None:
    names = random_tensors(tiny_config("llama", num_hidden_layers=3))
    with pytest.raises(TensorMismatchError, match="lacks 18 tensors") as caught:
        checked(without=tuple(n for n in names if ".layers.1." in n or ".layers.2." in n), num_hidden_layers=3)
    assert "hold 1 layers, config.json says 3" in caught.value.hint


def test_a_wrong_shape_and_an_unreadable_type_are_named() -> None:
    name = f"{LAYER}.mlp.down_proj.weight"
    with pytest.raises(TensorMismatchError, match=r"down_proj.weight has shape \[144, 199\].*implies \[144, 200\]"):
        checked({name: (144, 199)})
    spec = spec_from_config(tiny_config("llama"))
    listed: Any = Listed({ref.name: ref.shape for ref in spec.tensors()}, True, False)
    listed.tensors[name] = TensorInfo(name, "Q8_K", (144, 200), Path("x"), 0, 0)
    with pytest.raises(CheckpointError, match="has type Q8_K"):
        check_tensors(listed, spec)
