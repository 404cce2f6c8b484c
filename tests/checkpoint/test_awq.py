"""AWQ checkpoints: codes, zero points and scales of both layouts, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from quantizations import default_quantization
from tiny_awq import TinyAwq

from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, NonFiniteWeightError, TensorMismatchError, UnsupportedModelError
from edgekit.quality.evaluation import evaluate
from edgekit.quantize.packing import unpack
from edgekit.scheme import QuantizationScheme

NAME = "model.layers.1.mlp.down_proj"
TEXT = "The capital of France is Paris. What is the capital of Italy? Rome. " * 8
MAX_KL = 0.02  # as for GPTQ: the embedding has 8 bits, activations too; another scale or zero point costs far more


@pytest.mark.parametrize("version", ["gemm", "gemv"])
@pytest.mark.parametrize(("group_size", "zero_point"), [(32, True), (32, False), (64, True), (128, True), (-1, True)])
def test_every_code_zero_point_and_scale(tmp_path: Path, version: str, group_size: int, zero_point: bool) -> None:
    """down_proj has 160 inputs: the last group of 64 and of 128 is short."""
    tiny = TinyAwq(version=version, group_size=group_size, zero_point=zero_point)
    with open_checkpoint(tiny.write(tmp_path)) as opened:
        assert (opened.format, opened.holds_codes) == ("awq", True)
        assert not [name for name in opened.tensors if name.endswith(("qweight", "qzeros", "scales"))]
        for module, weight in tiny.weights.items():
            name, count = f"{module}.weight", weight.codes.shape[1]
            assert opened.tensors[name].shape == (count, weight.codes.shape[0])
            format_ = opened.quantized_format(name)
            assert format_ is not None
            assert (format_.bits, format_.symmetric) == (4, not zero_point)
            np.testing.assert_array_equal(format_.groups, weight.groups)
            for start, stop in ((0, count), (3, 21), (8, 16)):
                rows = opened.quantized_rows(name, start, stop)
                assert rows is not None
                np.testing.assert_array_equal(unpack(rows.codes, 4), weight.codes.T[start:stop])
                np.testing.assert_array_equal(rows.zeros, weight.zeros.T[start:stop])
                np.testing.assert_array_equal(rows.scales, weight.scales.T[start:stop])
                found = opened.rows(name, start, stop)
                np.testing.assert_allclose(found, weight.dequantize()[start:stop], rtol=1e-6)
        assert opened.rows(f"{NAME}.weight", 5, 5).shape == (0, 160)
        np.testing.assert_array_equal(
            opened.rows("model.layers.0.self_attn.q_proj.bias", 0, 4),
            tiny.plain["model.layers.0.self_attn.q_proj.bias"][:4].astype(np.float16),
        )


def test_words_as_autoawq_packs_them(tmp_path: Path) -> None:
    """Figures worked out by hand: fields 0..7 of a word are outputs 0, 2, 4, 6, 1, 3, 5, 7."""
    word = sum(code << (4 * i) for i, code in enumerate((0, 2, 4, 6, 1, 3, 5, 7)))

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[f"{NAME}.qweight"][:] = np.uint32(word).view(np.int32)

    tiny = TinyAwq(change=change)
    with open_checkpoint(tiny.write(tmp_path)) as opened:
        rows = opened.quantized_rows(f"{NAME}.weight", 0, 16)
        assert rows is not None
        np.testing.assert_array_equal(unpack(rows.codes, 4)[:, 0], [*range(8), *range(8)])


@pytest.mark.parametrize("version", ["gemm", "gemv"])
def test_without_zero_points_all_are_eight(tmp_path: Path, version: str) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if name.endswith("qzeros")]:
            del tensors[name]

    tiny = TinyAwq(version=version, zero_point=False, change=change)
    with open_checkpoint(tiny.write(tmp_path)) as opened:
        expected = tiny.weights[NAME].dequantize()
        np.testing.assert_allclose(opened.rows(f"{NAME}.weight", 0, len(expected)), expected, rtol=1e-6)


MODELS = {
    "gemm": TinyAwq(group_size=64),
    "gemv": TinyAwq("llama", version="gemv", group_size=32),
    "symmetric, partly float": TinyAwq(zero_point=False, float_modules=("1.mlp.down_proj", "0.self_attn.v_proj")),
    "groups that are dequantized": TinyAwq(group_size=16),
}


@pytest.mark.parametrize("name", MODELS)
def test_an_artifact_computes_the_checkpoints_function(tmp_path: Path, name: str) -> None:
    tiny = replace(MODELS[name], weights={}, plain={})
    folder = tiny.write(tmp_path / "checkpoint")
    eight = QuantizationScheme(8, 32)
    asked = {"embedding": eight, "lm_head": eight, "linear": eight}
    if not tiny.float_modules and tiny.group_size != 16:
        del asked["linear"]
    quantization = default_quantization(**asked)
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False, quantization=quantization)
    found = evaluate(result.artifact, tiny.float_twin(tmp_path / "twin"), TEXT, chunk_tokens=64)
    assert found.mean_kl < MAX_KL
    manifest = read_manifest(result.artifact)
    assert manifest.source["format"] == "awq"
    assert manifest.source["quantize_config"]["quant_method"] == "awq"
    if tiny.group_size == 16:
        assert "groups of 16 inputs" in manifest.notes[0]
        assert manifest.quantization["method"] != "imported"
    else:
        assert manifest.quantization["method"] == "imported"
        assert manifest.quantization["linear"]["symmetric"] is not tiny.zero_point


@pytest.mark.parametrize("settings", [{"group_size": None}, {"version": None, "bits": None, "group_size": None}])
def test_the_shapes_tell_what_the_configuration_does_not(tmp_path: Path, settings: dict[str, None]) -> None:
    tiny = TinyAwq(group_size=64, settings=settings)
    with open_checkpoint(tiny.write(tmp_path)) as opened:
        format_ = opened.quantized_format(f"{NAME}.weight")
        assert format_ is not None
        np.testing.assert_array_equal(np.unique(format_.groups), [0, 1, 2])


def edit(**changes: np.ndarray | None) -> TinyAwq:
    """A checkpoint in which parts of one linear are replaced or, with None, missing."""

    def change(tensors: dict[str, np.ndarray]) -> None:
        for part, array in changes.items():
            if array is None:
                del tensors[f"{NAME}.{part}"]
            else:
                tensors[f"{NAME}.{part}"] = array

    return TinyAwq(change=change)


@pytest.mark.parametrize(
    ("tiny", "words"),
    [
        (edit(scales=None), "down_proj has no scales"),
        (edit(qzeros=None), "down_proj has no qzeros"),
        (edit(scales=np.ones((4, 128), np.float16)), r"group_size = 32, but .*160 inputs make 5 groups"),
        (edit(qzeros=np.ones((5, 8), np.int32)), "which do not fit"),
        (edit(scales=np.ones(5, np.float16)), "must have two axes"),
        (edit(weight=np.ones((128, 160), np.float16)), r"contains both .*down_proj.weight and"),
        (TinyAwq(settings={"group_size": 64}), "group_size = 64, but"),
    ],
)
def test_tensors_that_contradict_each_other(tmp_path: Path, tiny: TinyAwq, words: str) -> None:
    with pytest.raises(TensorMismatchError, match=words):
        open_checkpoint(tiny.write(tmp_path))


@pytest.mark.parametrize(
    ("tiny", "words"),
    [
        (edit(qweight=np.ones((40, 160), np.int16)), "qweight is I16"),
        (TinyAwq(version="gemv", settings={"group_size": None}), "has no group_size"),
    ],
)
def test_versions_that_are_not_read(tmp_path: Path, tiny: TinyAwq, words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        open_checkpoint(tiny.write(tmp_path))


def test_weights_that_are_not_symmetric_as_described(tmp_path: Path) -> None:
    tiny = TinyAwq(settings={"zero_point": False})
    mismatch = pytest.raises(TensorMismatchError, match="says that the weights are symmetric, but")
    with open_checkpoint(tiny.write(tmp_path)) as opened, mismatch as caught:
        opened.rows(f"{NAME}.weight", 0, 8)
    assert "zero_point" in caught.value.hint


def test_scales_that_cannot_be_used(tmp_path: Path) -> None:
    def damage(tensors: dict[str, np.ndarray]) -> None:
        tensors[f"{NAME}.scales"][2, 5] = np.inf

    folder = TinyAwq(change=damage).write(tmp_path / "checkpoint")
    with pytest.raises(NonFiniteWeightError, match=r"down_proj.weight has a scale of inf in row 5, group 2"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)

    def integers(tensors: dict[str, np.ndarray]) -> None:
        tensors[f"{NAME}.scales"] = tensors[f"{NAME}.scales"].view(np.uint8)[:, ::2].astype(np.int32)

    folder = TinyAwq(change=integers).write(tmp_path / "integers")
    with pytest.raises(CheckpointError, match=r"scales.* has type I32"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)


def test_rows_outside_the_weight(tmp_path: Path) -> None:
    with open_checkpoint(TinyAwq().write(tmp_path)) as opened:
        with pytest.raises(ValueError, match="it has 128 rows"):
            opened.quantized_rows(f"{NAME}.weight", 0, 129)
        assert opened.quantized_rows("model.norm.weight", 0, 1) is None


def test_a_plan_of_a_folder_knows_the_formats(tmp_path: Path) -> None:
    from edgekit.build.plan import plannable

    recipe, _ = plannable(TinyAwq(group_size=64).write(tmp_path))
    assert recipe.quantization.linear == QuantizationScheme(4, 64, False)
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["group_size"] == 64
