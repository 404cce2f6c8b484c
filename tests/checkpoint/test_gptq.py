"""Reading GPTQ checkpoints, compared with checkpoints packed word by word from the format's description."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_gptq import TinyGptq, rewrite

from edgekit.checkpoint import GptqCheckpoint, open_checkpoint
from edgekit.errors import (
    CheckpointError,
    CorruptFileError,
    TensorMismatchError,
    TruncatedFileError,
    UnsupportedModelError,
)

Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"


def opened(folder: Path) -> GptqCheckpoint:
    checkpoint = open_checkpoint(folder)
    assert isinstance(checkpoint, GptqCheckpoint)
    return checkpoint


@pytest.mark.parametrize("stored_format", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "group_size"), [(4, 32), (4, 128), (8, 64), (8, -1), (4, 256), (4, 48)])
def test_weights_are_dequantized_by_definition(
    tmp_path: Path, bits: int, group_size: int, symmetric: bool, stored_format: str
) -> None:
    tiny = TinyGptq(bits=bits, group_size=group_size, symmetric=symmetric, stored_format=stored_format)
    with opened(tiny.write(tmp_path)) as checkpoint:
        assert not [name for name in checkpoint.tensors if name.endswith((".qweight", ".g_idx"))]
        for module, weight in tiny.weights.items():
            expected = weight.dequantize()
            assert checkpoint.tensors[f"{module}.weight"].shape == expected.shape
            for start, stop in ((0, len(expected)), (3, 21), (5, 5)):
                found = checkpoint.rows(f"{module}.weight", start, stop)
                np.testing.assert_allclose(found, expected[start:stop], rtol=1e-6, atol=0)
                rows = checkpoint.quantized_rows(f"{module}.weight", start, stop)
                assert rows is not None
                np.testing.assert_array_equal(rows.zeros, weight.zeros.T[start:stop])
                np.testing.assert_array_equal(rows.scales, weight.scales.T[start:stop])
        assert checkpoint.quantized_rows("model.norm.weight", 0, 1) is None
        assert checkpoint.quantized_format("model.norm.weight") is None


@pytest.mark.parametrize("stored_format", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("label", ["gptq", "gptq_v2", None])
def test_the_values_of_symmetric_zeros_show_the_format(tmp_path: Path, stored_format: str, label: str | None) -> None:
    """A wrong or missing label has no effect."""
    tiny = TinyGptq(stored_format=stored_format, quantize_config={"checkpoint_format": label})
    with opened(tiny.write(tmp_path)) as checkpoint:
        found = checkpoint.rows(f"{Q}.weight", 0, 8)
    np.testing.assert_allclose(found, tiny.weights[Q].dequantize()[:8], rtol=1e-6)


def test_a_zero_point_that_wraps_to_0_does_not_carry_into_the_next(tmp_path: Path) -> None:
    tiny = TinyGptq(symmetric=False)
    folder = tiny.write(tmp_path)
    rewrite(folder, lambda tensors: tensors[f"{Q}.qzeros"].fill(-1))  # every field 15: 16 & 15 is 0
    with opened(folder) as checkpoint:
        rows = checkpoint.quantized_rows(f"{Q}.weight", 0, 128)
    assert rows is not None
    assert not rows.zeros.any()


def test_asymmetric_zeros_without_a_label_are_refused(tmp_path: Path) -> None:
    folder = TinyGptq(symmetric=False, quantize_config={"checkpoint_format": None}).write(tmp_path)
    with opened(folder) as checkpoint, pytest.raises(UnsupportedModelError, match="has no checkpoint_format") as caught:
        checkpoint.rows(f"{Q}.weight", 0, 1)
    assert '"gptq_v2"' in caught.value.hint


def test_asymmetric_zeros_in_a_file_labelled_symmetric_are_refused(tmp_path: Path) -> None:
    folder = TinyGptq(symmetric=False, quantize_config={"sym": True}).write(tmp_path)
    with (
        opened(folder) as checkpoint,
        pytest.raises(TensorMismatchError, match=r"says sym = true, but .*q_proj.qzeros has values \d+ to 15"),
    ):
        checkpoint.rows(f"{Q}.weight", 0, 1)


def test_an_absent_g_idx_means_consecutive_groups(tmp_path: Path) -> None:
    tiny = TinyGptq(group_size=64)
    folder = tiny.write(tmp_path)
    rewrite(folder, lambda tensors: [tensors.pop(f"{m}.g_idx") for m in tiny.weights])
    with opened(folder) as checkpoint:
        np.testing.assert_allclose(
            checkpoint.rows(f"{DOWN}.weight", 0, 128), tiny.weights[DOWN].dequantize(), rtol=1e-6
        )


def test_scattered_groups_are_read(tmp_path: Path) -> None:
    """With activation order, g_idx gives each input's group."""

    def scatter(tensors: dict[str, np.ndarray]) -> None:
        rng = np.random.default_rng(3)
        for module in tiny.weights:
            tiny.weights[module].groups = rng.permutation(tiny.weights[module].groups)
            tensors[f"{module}.g_idx"] = tiny.weights[module].groups.astype(np.int32)

    tiny = TinyGptq(change=scatter, quantize_config={"desc_act": True})
    with opened(tiny.write(tmp_path)) as checkpoint:
        np.testing.assert_allclose(checkpoint.rows(f"{Q}.weight", 0, 128), tiny.weights[Q].dequantize(), rtol=1e-6)


def test_modules_of_another_width(tmp_path: Path) -> None:
    dynamic = {r"+:model\.layers\.1\.mlp": {"bits": 8, "group_size": 64}, r"-:.*k_proj": {}}
    tiny = TinyGptq(
        quantize_config={"dynamic": dynamic},
        float_modules=("k_proj",),
        per_module=lambda module: {"bits": 8, "group_size": 64} if "layers.1.mlp" in module else {},
    )
    with opened(tiny.write(tmp_path)) as checkpoint:
        for module in (Q, DOWN):
            expected = tiny.weights[module].dequantize()
            np.testing.assert_allclose(checkpoint.rows(f"{module}.weight", 0, len(expected)), expected, rtol=1e-6)
        assert checkpoint.tensors["model.layers.0.self_attn.k_proj.weight"].dtype == "float16"


def test_autogptqs_file_name_is_recognized(tmp_path: Path) -> None:
    folder = TinyGptq().write(tmp_path)
    (folder / "model.safetensors").rename(folder / "gptq_model-4bit-32g.safetensors")
    with opened(folder) as checkpoint:
        assert checkpoint.files == (folder / "gptq_model-4bit-32g.safetensors",)


@pytest.mark.parametrize("kept", ["quantize_config.json", "config.json"])
def test_one_of_the_two_descriptions_is_enough(tmp_path: Path, kept: str) -> None:
    folder = TinyGptq().write(tmp_path)
    if kept == "config.json":
        (folder / "quantize_config.json").unlink()
    else:
        config = json.loads((folder / "config.json").read_text())
        del config["quantization_config"]
        (folder / "config.json").write_text(json.dumps(config))
    with opened(folder) as checkpoint:
        assert checkpoint.gptq.group_size == 32
        assert checkpoint.quantization["bits"] == 4


def _tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[TinyGptq], None]:
    def damage(tensors: dict[str, np.ndarray]) -> None:
        change(tensors)

    def set_change(tiny: TinyGptq) -> None:
        tiny.change = damage

    return set_change


def _replace(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[TinyGptq], None]:
    return _tensors(lambda tensors: tensors.update({name: np.ascontiguousarray(make(tensors[name]))}))


def _with(**values: object) -> Callable[[TinyGptq], None]:
    return lambda tiny: tiny.quantize_config.update(values)


BAD = {
    "bits": (_with(bits=8), TensorMismatchError, r"says bits = 8, but .*_proj has .*qweight.*, which is 4 bits"),
    "group_size": (
        _with(group_size=64), TensorMismatchError, r"group_size = 64, which means 3 groups for 160 inputs, but .* has 5"
    ),
    "the copy in config.json": (
        lambda tiny: tiny.copy.update(group_size=128),
        TensorMismatchError, r"quantize_config.json says group_size = 32, but .*config.json.* says 128",
    ),
    "three bits": (_with(bits=3), UnsupportedModelError, "bits is 3; supported: 4, 8"),
    "marlin": (_with(checkpoint_format="marlin"), UnsupportedModelError, "checkpoint_format is 'marlin'"),
    "pack_dtype": (_with(pack_dtype="int16"), UnsupportedModelError, "pack_dtype is 'int16'; supported: 'int32'"),
    "no bits": (_with(bits=None), CorruptFileError, "lacks bits"),
    "bits in words": (_with(bits="four"), CorruptFileError, "bits is 'four'; it must be a whole number"),
    "group_size 0": (_with(group_size=0), CorruptFileError, "group_size is 0"),
    "sym in words": (_with(sym="yes"), CorruptFileError, "sym is 'yes'; it must be true or false"),
    "dynamic": (_with(dynamic={"+:(": {}}), CorruptFileError, "is not a valid regular expression"),
    "dynamic's bits": (_with(dynamic={".*": {"bits": 3}}), UnsupportedModelError, "dynamic '.*': bits is 3"),
    "left in float": (_with(dynamic={"-:.*down": {}}), TensorMismatchError, "leaves .*down_proj in float .*qweight"),
    "qweight of floats": (
        _replace(f"{Q}.qweight", lambda a: a.view(np.float32)),
        TensorMismatchError, r"q_proj.qweight is float32; GPTQ requires I32",
    ),
    "qzeros of bytes": (
        _replace(f"{Q}.qzeros", lambda a: a.view(np.uint8)), TensorMismatchError, r"q_proj.qzeros is U8; .* I32"
    ),
    "no scales": (
        _tensors(lambda tensors: tensors.pop(f"{Q}.scales")), TensorMismatchError, "q_proj has a qweight but no scales"
    ),
    "scales of another shape": (
        _replace(f"{Q}.scales", lambda a: a[:, :-8]), TensorMismatchError, r"scales has shape \[4, 120\].*\[4, 128\]"
    ),
    "flat qweight": (_replace(f"{Q}.qweight", np.ravel), TensorMismatchError, "it must have two axes"),
    "square g_idx": (_replace(f"{Q}.g_idx", lambda a: a[None]), TensorMismatchError, "it must have one axis"),
    "short g_idx": (_replace(f"{Q}.g_idx", lambda a: a[:-1]), TensorMismatchError, "which contradict each other"),
    "weight and codes": (
        _tensors(lambda tensors: tensors.update({f"{Q}.weight": np.zeros((128, 128), np.float16)})),
        TensorMismatchError, "contains both .*q_proj.weight and .*q_proj.qweight",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_contradictions_are_named(tmp_path: Path, case: str) -> None:
    damage, error, message = BAD[case]
    tiny = TinyGptq()
    damage(tiny)
    folder = tiny.write(tmp_path)
    with pytest.raises(error, match=message) as caught:
        open_checkpoint(folder)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("desc_act", "groups", "error", "message"),
    [
        (
            False,
            np.arange(128) % 4,
            TensorMismatchError,
            r"puts input 1 into group 1, .*desc_act = false, which means group 0",
        ),
        (True, np.arange(128) // 32 + 1, CorruptFileError, r"has groups 1 to 4; allowed: 0 to 3"),
        (True, np.arange(128) // 32 - 1, CorruptFileError, r"has groups -1 to 2; allowed: 0 to 3"),
    ],
)
def test_an_invalid_g_idx_is_refused(
    tmp_path: Path, desc_act: bool, groups: np.ndarray, error: type[CheckpointError], message: str
) -> None:
    folder = TinyGptq(quantize_config={"desc_act": desc_act}).write(tmp_path)
    rewrite(folder, lambda tensors: tensors.update({f"{Q}.g_idx": groups.astype(np.int32)}))
    with opened(folder) as checkpoint, pytest.raises(error, match=message):
        checkpoint.quantized_format(f"{Q}.weight")


def test_activation_order_without_g_idx_is_refused(tmp_path: Path) -> None:
    folder = TinyGptq(quantize_config={"desc_act": True}).write(tmp_path)
    rewrite(folder, lambda tensors: tensors.pop(f"{Q}.g_idx"))
    with pytest.raises(TensorMismatchError, match=r"desc_act = true, but .*q_proj has no g_idx"):
        open_checkpoint(folder)


def test_a_checkpoint_without_quantized_weights_is_float(tmp_path: Path) -> None:
    folder = TinyGptq(float_modules=("_proj",)).write(tmp_path)
    with pytest.raises(TensorMismatchError, match="says that the weights are quantized, but there is no qweight"):
        GptqCheckpoint(folder)
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.format == "huggingface"
        assert "but the weights are float" in checkpoint.notes[0]


def test_a_truncated_file(tmp_path: Path) -> None:
    folder = TinyGptq().write(tmp_path)
    path = folder / "model.safetensors"
    with opened(folder) as checkpoint:
        last = max(checkpoint.tensors.values(), key=lambda t: t.offset)
        os.truncate(path, last.offset)
        with pytest.raises(TruncatedFileError, match="is truncated: tensor"):
            checkpoint.rows(last.name, 0, last.shape[0])
    with pytest.raises(TruncatedFileError, match="is truncated: tensor"):
        open_checkpoint(folder)


def test_other_methods_are_refused(tmp_path: Path) -> None:
    folder = TinyGptq(quantize_config={"quant_method": "auto-round"}).write(tmp_path)
    with pytest.raises(UnsupportedModelError, match="quant_method is 'auto-round'; supported: 'gptq'"):
        open_checkpoint(folder)


def test_rows_outside(tmp_path: Path) -> None:
    with opened(TinyGptq().write(tmp_path)) as checkpoint, pytest.raises(ValueError, match="rows 0 to 129"):
        checkpoint.quantized_rows(f"{Q}.weight", 0, 129)


def test_the_first_autogptqs_configuration_is_read(tmp_path: Path) -> None:
    """It has no quant_method and no checkpoint_format; only the file's name shows that this is GPTQ."""
    folder = TinyGptq(quantize_config={"quant_method": None, "checkpoint_format": None}).write(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    with opened(folder) as checkpoint:
        assert checkpoint.gptq.label is None


def test_a_configuration_with_only_the_newer_names_is_read(tmp_path: Path) -> None:
    newer = {"quant_method": None, "checkpoint_format": None, "method": "GPTQ", "format": "gptq_v2"}
    folder = TinyGptq(quantize_config=newer, stored_format="gptq_v2", symmetric=False).write(tmp_path)
    with opened(folder) as checkpoint:
        assert checkpoint.gptq.label == "gptq_v2"
