"""8-bit floating-point weights: every layout of scales, short blocks, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from raw_safetensors import save_tensors
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.build.pipeline import build
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import (
    CheckpointError,
    CorruptFileError,
    NonFiniteWeightError,
    TensorMismatchError,
    UnsupportedModelError,
)
from edgekit.models import spec_from_config
from edgekit.weights.checkpoint import CheckpointWeights

E4M3, E5M2, E8M0 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e8m0fnu
NAME = "model.layers.0.mlp.down_proj"
DEEPSEEK = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def value(code: int, exponent_bits: int) -> float:
    """The value of a code by the OCP 8-bit floating point specification, section 5; finite codes only."""
    mantissa_bits = 7 - exponent_bits
    sign = -1.0 if code & 0x80 else 1.0
    exponent = (code & 0x7F) >> mantissa_bits
    mantissa = (code & (2**mantissa_bits - 1)) / 2**mantissa_bits
    bias = 2 ** (exponent_bits - 1) - 1
    return sign * (mantissa * 2.0 ** (1 - bias) if exponent == 0 else (1 + mantissa) * 2.0 ** (exponent - bias))


def finite_codes(shape: tuple[int, int], exponent_bits: int) -> np.ndarray:
    largest = 0x7E if exponent_bits == 4 else 0x7B
    rng = np.random.default_rng(1)
    return (rng.integers(0, largest + 1, shape) + 128 * rng.integers(0, 2, shape)).astype(np.uint8)


def write(folder: Path, tensors: dict[str, np.ndarray], quantization: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    described = {} if quantization is None else {"quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **described}))
    save_tensors(folder / "model.safetensors", tensors)
    return folder


@pytest.mark.parametrize("exponent_bits", [4, 5])
@pytest.mark.parametrize("shape", [(300, 200), (1, 129), (128, 256)])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_block_shares_a_scale(tmp_path: Path, exponent_bits: int, shape: tuple[int, int], kind: str) -> None:
    codes = finite_codes(shape, exponent_bits)
    grid = (-(-shape[0] // 128), -(-shape[1] // 128))
    scales = np.random.default_rng(2).uniform(0.001, 2, grid).astype(ml_dtypes.bfloat16 if kind == "bfloat16" else "f4")
    folder = write(
        tmp_path,
        {f"{NAME}.weight": codes.view(E4M3 if exponent_bits == 4 else E5M2), f"{NAME}.weight_scale_inv": scales},
        DEEPSEEK,
    )
    expected = np.array(
        [
            [value(int(codes[n, k]), exponent_bits) * float(scales[n // 128, k // 128]) for k in range(shape[1])]
            for n in range(shape[0])
        ]
    )
    with open_checkpoint(folder) as opened:
        assert opened.format == "fp8"
        assert list(opened.tensors) == [f"{NAME}.weight"]
        for start, stop in ((0, shape[0]), (shape[0] // 2, shape[0]), (shape[0] // 3, shape[0] // 2), (0, 0)):
            found = opened.rows(f"{NAME}.weight", start, stop)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected[start:stop], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "config"),
    [
        ((), None),
        ((1,), {"quant_method": "fp8", "activation_scheme": "static"}),
        ((1, 1), {"quant_method": "fp8"}),
        ((6,), {"quant_method": "fbgemm_fp8"}),
        ((6, 1), {"quant_method": "compressed-tensors", "format": "float-quantized"}),
        ((6, 1), DEEPSEEK),
        ((2, 3), DEEPSEEK | {"weight_block_size": [3, 2]}),
        ((2, 2), {"config_groups": {"group_0": {"weights": {"block_structure": [3, 3]}}}}),
    ],
)
def test_scales_of_rows_blocks_and_whole_weights(
    tmp_path: Path, shape: tuple[int, ...], config: dict[str, Any] | None
) -> None:
    codes = finite_codes((6, 5), 4)
    scales = np.random.default_rng(2).uniform(0.5, 2, shape).astype(np.float32)
    write(tmp_path, {f"{NAME}.weight": codes.view(E4M3), f"{NAME}.weight_scale": scales}, config)
    grid = scales.reshape(-1, 1) if scales.ndim < 2 else scales
    high, wide = (6 if grid.shape[0] == 1 else -(-6 // grid.shape[0])), -(-5 // grid.shape[1])
    expected = codes.view(E4M3).astype(np.float32) * np.repeat(np.repeat(grid, high, 0), wide, 1)[:6, :5]
    with open_checkpoint(tmp_path) as opened:
        np.testing.assert_allclose(opened.rows(f"{NAME}.weight", 0, 6), expected, rtol=1e-6)
        np.testing.assert_allclose(opened.rows(f"{NAME}.weight", 4, 5), expected[4:5], rtol=1e-6)


GPTQMODEL = {
    "bits": 8, "group_size": -1, "method": "fp8", "quant_method": "fp8", "format": "float8_e4m3fn",
    "pack_dtype": "int32", "weight_scale_method": "row", "weight_scale_semantics": "inverse",
}  # fmt: skip


def described_in(folder: Path, where: str, tensors: dict[str, np.ndarray]) -> Path:
    """A folder with GPTQModel's description in one of its two files, or in both."""
    write(folder, tensors, GPTQMODEL if where != "quantize_config" else DEEPSEEK | {"weight_block_size": None})
    if where != "config":
        (folder / "quantize_config.json").write_text(json.dumps(GPTQMODEL))
    return folder


@pytest.mark.parametrize("where", ["config", "quantize_config", "both"])
@pytest.mark.parametrize("scale_shape", [(200,), (2, 1), (1, 1)])
def test_inverse_scales_of_gptqmodel_divide(tmp_path: Path, where: str, scale_shape: tuple[int, ...]) -> None:
    codes = finite_codes((200, 96), 4)
    scales = np.random.default_rng(3).uniform(50, 5000, scale_shape).astype("f4")
    tensors = {f"{NAME}.weight": codes.view(E4M3), f"{NAME}.weight_scale_inv": scales}
    with open_checkpoint(described_in(tmp_path, where, tensors)) as opened:
        assert opened.quantization["weight_scale_semantics"] == "inverse"
        rows = opened.rows(f"{NAME}.weight", 1, 199)
    blocks = np.repeat(scales.reshape(scales.shape[0], -1), -(-200 // scale_shape[0]) if scale_shape[0] > 1 else 200, 0)
    if scale_shape == (2, 1):
        blocks = np.repeat(scales, 128, 0)
    expected = np.vectorize(value)(codes, 4) / blocks[:200]
    np.testing.assert_allclose(rows, expected[1:199], rtol=3e-7)


@pytest.mark.parametrize("bad", [0, np.inf, np.nan])
def test_an_inverse_scale_that_cannot_divide(tmp_path: Path, bad: float) -> None:
    scales = np.full(4, 2, "f4")
    scales[2] = bad
    tensors = {f"{NAME}.weight": finite_codes((4, 32), 4).view(E4M3), f"{NAME}.weight_scale_inv": scales}
    with (
        open_checkpoint(described_in(tmp_path, "config", tensors)) as opened,
        pytest.raises(CorruptFileError, match=rf"{float(bad)} at \[2, 0\]; inverse scales must be finite and not 0"),
    ):
        opened.rows(f"{NAME}.weight", 0, 4)


@pytest.mark.parametrize("name", ["config", "quantize_config"])
def test_a_meaning_of_scales_that_is_not_known(tmp_path: Path, name: str) -> None:
    tensors = {f"{NAME}.weight": finite_codes((4, 32), 4).view(E4M3), f"{NAME}.weight_scale_inv": np.ones(4, "f4")}
    folder = described_in(tmp_path, "both", tensors)
    path = folder / f"{name}.json"
    path.write_text(path.read_text().replace('"inverse"', '"squared"'))
    with pytest.raises(
        UnsupportedModelError, match=rf"{name}\.json.*weight_scale_semantics is 'squared'; supported: 'i"
    ):
        open_checkpoint(folder)


def test_weights_that_need_a_rotation_at_run_time_are_refused(tmp_path: Path) -> None:
    described = DEEPSEEK | {"transform_config": {"config_groups": {"u": {"type": "hadamard"}}}}
    codes = finite_codes((128, 128), 4).view(E4M3)
    folder = write(tmp_path, {f"{NAME}.weight": codes, f"{NAME}.weight_scale_inv": np.ones((1, 1), "f4")}, described)
    with pytest.raises(UnsupportedModelError, match=r"transform_config is .*activations have to be transformed"):
        open_checkpoint(folder)


def test_scales_that_are_powers_of_two(tmp_path: Path) -> None:
    weight, scales = np.ones((2, 2), E4M3), np.array([[126], [129]], np.uint8).view(E8M0)
    write(tmp_path, {f"{NAME}.weight": weight, f"{NAME}.weight_scale_inv": scales}, DEEPSEEK)
    with open_checkpoint(tmp_path) as opened:
        assert opened.rows(f"{NAME}.weight", 0, 2).tolist() == [[0.5, 0.5], [4, 4]]


def test_values_that_were_cast_without_scales(tmp_path: Path) -> None:
    weight = np.array([[0.5, -2], [448, 0]], E4M3)
    write(tmp_path, {f"{NAME}.weight": weight})
    with open_checkpoint(tmp_path) as opened:
        assert opened.rows(f"{NAME}.weight", 0, 2).tolist() == [[0.5, -2], [448, 0]]


def test_scales_of_activations_are_left_out_and_named(tmp_path: Path) -> None:
    tensors = {f"{NAME}.weight": np.ones((2, 2), E4M3), f"{NAME}.weight_scale": np.float32([1])}
    more = {f"{NAME}.input_scale": np.float32([3]), "model.layers.0.self_attn.k_scale": np.float32([3])}
    write(tmp_path, tensors | more, {"quant_method": "fp8", "activation_scheme": "static"})
    with open_checkpoint(tmp_path) as opened:
        assert list(opened.tensors) == [f"{NAME}.weight"]
        assert len(opened.notes) == 1
        assert "2 scales" in opened.notes[0]
        assert sorted(more)[0] in opened.notes[0]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, r"down_proj.weight has type F8_E4M3 .* no scales"),
        ({"weight_scale_inv": np.ones((3, 2), np.float32)}, r"weight_scale_inv has shape \[3, 2\], .* \[4, 4\]"),
        ({"weight_scale_inv": np.ones(3, np.float32)}, r"weight_scale_inv has shape \[3\]"),
        ({"weight_scale_inv": np.ones((1, 1, 4), np.float32)}, r"weight_scale_inv has shape \[1, 1, 4\]"),
        ({"weight_scale_inv": np.ones(1, np.float32), "weight_scale": np.ones(1, np.float32)}, "two tensors of scales"),
    ],
)
def test_scales_that_do_not_fit(tmp_path: Path, tensors: dict[str, np.ndarray], words: str) -> None:
    named = {f"{NAME}.{name}": array for name, array in tensors.items()}
    write(tmp_path, {f"{NAME}.weight": np.ones((4, 4), E4M3), **named}, DEEPSEEK)
    with pytest.raises(TensorMismatchError, match=words):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("block", [128, [128], [128, 0], [128, "x"]])
def test_a_block_size_that_is_none(tmp_path: Path, block: Any) -> None:
    scales = {f"{NAME}.weight_scale_inv": np.ones((1, 1), np.float32)}
    write(tmp_path, {f"{NAME}.weight": np.ones((4, 4), E4M3), **scales}, DEEPSEEK | {"weight_block_size": block})
    with pytest.raises(CorruptFileError, match=r"weight_block_size(\[1\])? is"):
        open_checkpoint(tmp_path)


def test_scales_that_are_not_numbers(tmp_path: Path) -> None:
    weight = np.ones((2, 2), E4M3)
    write(tmp_path, {f"{NAME}.weight": weight, f"{NAME}.weight_scale": np.float32([[1], [math.nan]])}, DEEPSEEK)
    with open_checkpoint(tmp_path) as opened, pytest.raises(CorruptFileError, match=r"holds nan at \[1, 0\]"):
        opened.rows(f"{NAME}.weight", 0, 2)
    write(tmp_path, {f"{NAME}.weight": weight, f"{NAME}.weight_scale": np.zeros((2, 1), np.int32)}, DEEPSEEK)
    with open_checkpoint(tmp_path) as opened, pytest.raises(CheckpointError, match="has type I32"):
        opened.rows(f"{NAME}.weight", 0, 2)


def quantized(tensors: dict[str, np.ndarray], kept: tuple[str, ...]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Quantize a model's matrices as Qwen3-FP8 does; also return the float weights that the result stands for."""
    stored, twin = {}, {}
    for name, w in tensors.items():
        stored[name] = twin[name] = w.astype(ml_dtypes.bfloat16)
        if w.ndim < 2 or name.startswith(kept):
            continue
        grid = -(-w.shape[0] // 128), -(-w.shape[1] // 128)
        padded = np.zeros((grid[0] * 128, grid[1] * 128), np.float32)
        padded[: w.shape[0], : w.shape[1]] = w
        scale = (np.abs(padded).reshape(grid[0], 128, grid[1], 128).max((1, 3)) / 448).astype(ml_dtypes.bfloat16)
        each = np.repeat(np.repeat(scale.astype(np.float32), 128, 0), 128, 1)[: w.shape[0], : w.shape[1]]
        stored[name], stored[f"{name}_scale_inv"] = (w / each).astype(E4M3), scale
        twin[name] = stored[name].astype(np.float32) * each
    return stored, twin


def test_a_whole_model_builds(tmp_path: Path) -> None:
    """Odd sizes: the last block of every matrix is short."""
    config = tiny_config("qwen2")
    kept = ("model.embed_tokens", "lm_head", "model.layers.1.mlp.up_proj")
    stored, twin = quantized(random_tensors(config), kept)
    described = DEEPSEEK | {"modules_to_not_convert": list(kept)}
    folder = write_checkpoint(tmp_path / "fp8", "qwen2", {}, quantization_config=described)
    save_tensors(folder / "model.safetensors", stored)
    with open_checkpoint(folder) as opened:
        spec = spec_from_config(opened.config)
        weights = CheckpointWeights(opened, spec)
        for ref in spec.tensors():
            expected = twin[ref.name].astype(np.float32)
            np.testing.assert_allclose(weights.rows(ref, 0, ref.shape[0]), expected, rtol=1e-6)
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)
    assert result.manifest.source["format"] == "fp8"
    assert result.manifest.source["quantize_config"] == described
    assert "quantization_config" not in (result.artifact / "config.json").read_text()


def test_a_weight_that_is_not_finite_is_named_by_the_build(tmp_path: Path) -> None:
    stored, _ = quantized(random_tensors(tiny_config("qwen2")), ())
    stored[f"{NAME}.weight"].view(np.uint8)[3, 5] = 0x7F
    folder = write_checkpoint(tmp_path / "fp8", "qwen2", {}, quantization_config=DEEPSEEK)
    save_tensors(folder / "model.safetensors", stored)
    with pytest.raises(NonFiniteWeightError, match="down_proj"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)
