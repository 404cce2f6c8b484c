"""Codes copied from GPTQ checkpoints: bit for bit, or refused if the blocks do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizations import default_quantization
from tiny_gptq import GptqWeight, TinyGptq, random_weight, rewrite

import edgekit
from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build
from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.base import QuantizedFormat, QuantizedRows
from edgekit.errors import NonFiniteWeightError, TensorMismatchError, UnsupportedModelError
from edgekit.models import spec_from_config
from edgekit.quality.evaluation import evaluate
from edgekit.quantize.packing import pack, unpack
from edgekit.sampling import Sampling
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.weights.carried import carried_formats, repack

TEXT = "The capital of France is Paris. What is the capital of Italy? Rome. " * 8
MAX_KL = 0.02  # the artifact's embedding has 8 bits, its activations too; another scale or zero point costs far more
ASKED = QuantizationConfig(QuantizationScheme(4, 32, False), QuantizationScheme(8, 32), QuantizationScheme(8, 32))


def formats(folder: Path) -> QuantizationConfig:
    with open_checkpoint(folder) as opened:
        return carried_formats(opened, spec_from_config(opened.config), ASKED)


def as_rows(weight: GptqWeight, symmetric: bool) -> QuantizedRows:
    codes = pack(np.ascontiguousarray(weight.codes.T.astype(np.uint8)), weight.bits)
    format_ = QuantizedFormat(weight.bits, symmetric, weight.groups.astype(np.int32))
    return QuantizedRows(format_, codes, weight.scales.T.copy(), weight.zeros.T.astype(np.uint8))


@settings(deadline=None, max_examples=60)
@given(
    bits=st.sampled_from([4, 8]), out=st.integers(1, 9), words=st.integers(1, 60),
    block_size=st.sampled_from([32, 64, 128]), blocks_in_group=st.integers(1, 3), symmetric=st.booleans(),
    seed=st.integers(0, 2**16),
)  # fmt: skip
def test_repacking_changes_no_weight(
    bits: int, out: int, words: int, block_size: int, blocks_in_group: int, symmetric: bool, seed: int
) -> None:
    in_ = words * 32 // bits
    size = block_size * blocks_in_group
    weight = random_weight(out, in_, bits=bits, group_size=size, symmetric=symmetric, seed=seed)
    packed = repack(as_rows(weight, symmetric), QuantizationScheme(bits, block_size, symmetric))
    np.testing.assert_allclose(packed.dequantize(), weight.dequantize(), rtol=1e-6)
    flat = unpack(packed.codes, bits).reshape(out, -1)
    np.testing.assert_array_equal(flat[:, :in_], weight.codes.T)
    zeros = np.repeat(weight.zeros[-1][:, None], flat.shape[1] - in_, axis=1)
    np.testing.assert_array_equal(flat[:, in_:], zeros, err_msg="padding is the last block's zero point")


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        (QuantizationScheme(8, 32), "4-bit codes cannot"),
        (QuantizationScheme(4, 64), "a block holds inputs of several"),
        (QuantizationScheme(4, 32, True), "zero points cannot"),
    ],
)
def test_a_scheme_that_cannot_hold_the_codes(scheme: QuantizationScheme, words: str) -> None:
    weight = random_weight(8, 96, group_size=32, symmetric=False)
    with pytest.raises(ValueError, match=words):
        repack(as_rows(weight, False), scheme)


@pytest.mark.parametrize(
    ("group_size", "block_size"), [(32, 32), (64, 64), (128, 128), (-1, 128), (256, 128), (96, 32), (1000, 128)]
)
def test_groups_become_the_largest_blocks_that_hold_them(tmp_path: Path, group_size: int, block_size: int) -> None:
    """hidden 128 is one group of 128 or more; 96 leaves a short last group."""
    found = formats(TinyGptq(group_size=group_size).write(tmp_path))
    assert found.linear == QuantizationScheme(4, block_size, True)
    assert found.matrices == {}
    assert (found.embedding, found.lm_head) == (ASKED.embedding, ASKED.lm_head)
    assert found.method == "imported"


@pytest.mark.parametrize("group_size", [16, 48])
def test_groups_that_no_block_holds(tmp_path: Path, group_size: int) -> None:
    with pytest.raises(UnsupportedModelError, match=f"has groups of {group_size} inputs; .* multiple of 32"):
        formats(TinyGptq(group_size=group_size).write(tmp_path))


def scattered(folder: Path, tiny: TinyGptq) -> Path:
    rng = np.random.default_rng(1)

    def change(tensors: dict[str, np.ndarray]) -> None:
        for module in tiny.weights:
            tensors[f"{module}.g_idx"] = rng.permutation(tensors[f"{module}.g_idx"])

    tiny.write(folder)
    rewrite(folder, change)
    return folder


def test_scattered_groups_are_refused(tmp_path: Path) -> None:
    folder = scattered(tmp_path, TinyGptq(quantize_config={"desc_act": True}))
    with pytest.raises(UnsupportedModelError, match=r"in activation order .* scattered over") as caught:
        formats(folder)
    assert "static_groups=True" in caught.value.hint


def test_scattered_inputs_of_one_group_are_allowed(tmp_path: Path) -> None:
    """With one group per row, the order of the inputs has no effect."""
    folder = scattered(tmp_path, TinyGptq(group_size=-1, quantize_config={"desc_act": True}))
    assert formats(folder).linear == QuantizationScheme(4, 128, True)


def test_act_order_with_static_groups(tmp_path: Path) -> None:
    tiny = TinyGptq(quantize_config={"desc_act": True, "static_groups": True}, symmetric=False)
    assert formats(tiny.write(tmp_path)).linear == QuantizationScheme(4, 32, False)


def test_groups_in_another_order_but_whole(tmp_path: Path) -> None:
    """Runs of 32 inputs are valid blocks even if their groups do not ascend."""
    tiny = TinyGptq(group_size=32, quantize_config={"desc_act": True})
    tiny.per_module = lambda module: {}
    folder = tiny.write(tmp_path / "checkpoint")
    order = np.repeat([2, 0, 3, 1], 32)
    rewrite(folder, lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.g_idx": order.astype(np.int32)}))
    weight = tiny.weights["model.layers.0.self_attn.q_proj"]
    weight.groups = order
    with open_checkpoint(folder) as opened:
        rows = opened.quantized_rows("model.layers.0.self_attn.q_proj.weight", 0, 128)
        assert rows is not None
        packed = repack(rows, QuantizationScheme(4, 32))
    np.testing.assert_allclose(packed.dequantize(), weight.dequantize(), rtol=1e-6)


def test_parts_of_one_matrix_in_two_widths(tmp_path: Path) -> None:
    tiny = TinyGptq(
        quantize_config={"dynamic": {r".*0\.self_attn\.v_proj": {"bits": 8}}},
        per_module=lambda module: {"bits": 8} if module.endswith("0.self_attn.v_proj") else {},
    )
    with pytest.raises(TensorMismatchError, match=r"q_proj.weight has 4 bits.*0.self_attn.v_proj.weight has 8 bits"):
        formats(tiny.write(tmp_path))


def test_parts_of_one_matrix_in_two_group_sizes_share_the_smaller(tmp_path: Path) -> None:
    tiny = TinyGptq(
        group_size=128,
        quantize_config={"dynamic": {r".*\.v_proj": {"group_size": 64, "sym": False}}},
        per_module=lambda module: {"group_size": 64, "symmetric": False} if module.endswith("v_proj") else {},
    )
    found = formats(tiny.write(tmp_path))
    assert found.matrices["model.layers.1.attn.qkv_proj"] == QuantizationScheme(4, 64, False)
    assert found.linear == QuantizationScheme(4, 128, True)


MODELS = {
    "symmetric": TinyGptq(),
    "asymmetric with head": TinyGptq("qwen2", symmetric=False, stored_format="gptq_v2", group_size=64, lm_head=True),
    "eight bits by row": TinyGptq(bits=8, group_size=-1),
    "mixed": TinyGptq(
        float_modules=("1.mlp.down_proj", "0.self_attn.v_proj"),
        per_module=lambda module: {"bits": 8, "group_size": 128} if module.endswith("o_proj") else {},
        quantize_config={"dynamic": {r"+:.*o_proj$": {"bits": 8, "group_size": 128}, "-:.*1.mlp.down_proj": {}}},
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("device", ["cpu", "jetson"])
def test_an_artifact_computes_the_checkpoints_function(tmp_path: Path, name: str, device: str) -> None:
    tiny = replace(MODELS[name], weights={}, plain={})
    folder = tiny.write(tmp_path / "checkpoint")
    asked = {"embedding": QuantizationScheme(8, 32), "lm_head": QuantizationScheme(8, 32)}
    if tiny.float_modules:
        asked["linear"] = QuantizationScheme(8, 32)
    result = build(
        None, device, checkpoint=folder, out=tmp_path / "out", gate=False, quantization=default_quantization(**asked)
    )
    onnx.checker.check_model(result.artifact / "model.onnx")
    found = evaluate(result.artifact, tiny.float_twin(tmp_path / "twin"), TEXT, chunk_tokens=64)
    assert found.mean_kl < MAX_KL


def test_both_engines_run_matrices_of_several_formats(tmp_path: Path) -> None:
    tiny = replace(MODELS["mixed"], weights={}, plain={})
    out = build(None, "cpu", checkpoint=tiny.write(tmp_path / "checkpoint"), out=tmp_path / "out", gate=False).artifact
    metadata = {p.key: p.value for p in onnx.load(out / "model.onnx", load_external_data=False).metadata_props}
    assert metadata["edgekit.model.layers.0.attn.o_proj.bits"] == "8"
    assert metadata["edgekit.linear.bits"] == "4"
    answers = []
    for engine in ("ort", "native"):
        with edgekit.load(out, engine=engine) as session:
            ids = [0, 17, 200, 45, 99, 102]
            answers.append(session.generate(ids, max_tokens=16, sampling=Sampling(temperature=0)).complete())
    assert answers[0].tokens == answers[1].tokens
    assert len(answers[0].tokens) > 4


def test_the_manifest_says_where_the_codes_come_from(tmp_path: Path) -> None:
    folder = TinyGptq(quantize_config={"meta": {"quantizer": ["gptqmodel:7.6.0"]}}).write(tmp_path / "checkpoint")
    manifest = read_manifest(build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False).artifact)
    assert manifest.quantization["method"] == "imported"
    assert manifest.quantization["linear"] == {"bits": 4, "block_size": 32, "symmetric": True}
    assert manifest.source["format"] == "gptq"
    assert manifest.source["quantize_config"]["meta"] == {"quantizer": ["gptqmodel:7.6.0"]}
    assert b"quantization_config" not in (tmp_path / "out" / "config.json").read_bytes()


def test_a_scale_that_is_not_finite(tmp_path: Path) -> None:
    folder = TinyGptq().write(tmp_path / "checkpoint")

    def damage(tensors: dict[str, np.ndarray]) -> None:
        tensors["model.layers.1.mlp.up_proj.scales"][2, 5] = np.nan

    rewrite(folder, damage)
    with pytest.raises(NonFiniteWeightError, match=r"up_proj.weight has a scale of nan in row 5, group 2"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)


def test_biases_of_zeros_that_no_linear_has(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.bias"
    folder = TinyGptq().write(tmp_path / "checkpoint")
    rewrite(folder, lambda tensors: tensors.update({name: np.zeros(160, np.float16)}))
    build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)
    rewrite(folder, lambda tensors: tensors.update({name: np.ones(160, np.float16)}))
    with pytest.raises(
        TensorMismatchError, match=r"up_proj.bias\) that a llama model with this config.json has no place for"
    ):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out2", gate=False)
