"""Emitted GPTQ checkpoints, decoded independently from the format's description, and used for builds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from quantizations import default_quantization
from safetensors.numpy import load_file
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint
from tiny_gptq import SHAPES, TinyGptq

import edgekit.export.gptq_checkpoint as module
from edgekit.build.pipeline import BuildResult, build
from edgekit.errors import BuildError, NonFiniteWeightError, OutputExistsError, UnsupportedModelError
from edgekit.export.gptq_checkpoint import check_emittable
from edgekit.layout import plan_layout
from edgekit.models import spec_from_config
from edgekit.scheme import QuantizationConfig, QuantizationScheme

Q = "model.layers.0.self_attn.q_proj"
SCHEMES = [
    (QuantizationScheme(4, 32, True), "gptq"),
    (QuantizationScheme(4, 128, True), "gptq_v2"),
    (QuantizationScheme(8, 64, True), "gptq"),
    (QuantizationScheme(4, 64, False), "gptq_v2"),
    (QuantizationScheme(8, 128, False), "gptq_v2"),
]


def source(folder: Path, family: str = "qwen2", **changes: object) -> Path:
    """A checkpoint in float16."""
    config = tiny_config(family, **{**SHAPES, **changes})
    tensors = {name: values.astype(np.float16) for name, values in random_tensors(config).items()}
    return write_checkpoint(folder, family, tensors, **{**SHAPES, **changes})


def emit(folder: Path, checkpoint: Path, scheme: QuantizationScheme | None, format_: str, device: str) -> BuildResult:
    formats = QuantizationConfig(scheme, QuantizationScheme(8, 32), QuantizationScheme(8, 32))
    return build(None, device, checkpoint=checkpoint, out=folder, emit=format_, quantization=formats, gate=False)


def decode(tensors: dict[str, np.ndarray], linear: str, bits: int, stored_less: int) -> np.ndarray:
    """Decode the weight (out, in) from its four tensors, field by field."""
    qweight, qzeros = (tensors[f"{linear}.{part}"].view(np.uint32) for part in ("qweight", "qzeros"))
    scales, groups, mask = tensors[f"{linear}.scales"].astype(float), tensors[f"{linear}.g_idx"], 2**bits - 1
    fields = 32 // bits
    inputs, outputs = np.arange(len(groups)), np.arange(scales.shape[1])
    codes = (qweight[inputs // fields] >> (inputs % fields * bits)[:, None].astype(np.uint32)) & mask
    zeros = (qzeros[:, outputs // fields] >> (outputs % fields * bits).astype(np.uint32)) & mask
    zeros = (zeros.astype(int) + stored_less) & mask
    return ((codes.astype(int) - zeros[groups]) * scales[groups]).T


@pytest.mark.slow
@pytest.mark.parametrize("slab_bytes", [None, pytest.param(700, marks=pytest.mark.slow)])
@pytest.mark.parametrize("device", ["cpu", "jetson"])
@pytest.mark.parametrize(("scheme", "format_"), SCHEMES)
def test_there_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: QuantizationScheme, format_: str, device: str,
    slab_bytes: int | None,
) -> None:  # fmt: skip
    """An artifact built from the emitted checkpoint has the same bytes, with whole linears or with slabs."""
    if slab_bytes is not None:
        monkeypatch.setattr(module, "SLAB_BYTES", slab_bytes)
    first = emit(tmp_path / "first", source(tmp_path / "source"), scheme, format_, device)
    assert first.emitted == tmp_path / f"first-{format_}"
    assert first.to_json()["emitted"] == str(first.emitted)
    parts = {"embedding": QuantizationScheme(8, 32), "lm_head": QuantizationScheme(8, 32)}
    second = build(
        None, device, checkpoint=first.emitted, out=tmp_path / "second", gate=False,
        quantization=default_quantization(**parts),
    )  # fmt: skip
    assert second.manifest.quantization["linear"] == first.manifest.quantization["linear"]
    data = [(r.artifact / "model.onnx.data").read_bytes() for r in (first, second)]
    assert data[0] == data[1]


@pytest.mark.parametrize(("scheme", "format_"), SCHEMES)
def test_what_is_written_means_the_weight(tmp_path: Path, scheme: QuantizationScheme, format_: str) -> None:
    result = emit(tmp_path / "out", source(tmp_path / "source"), scheme, format_, "cpu")
    assert result.emitted is not None
    written, original = (
        load_file(result.emitted / "model.safetensors"),
        load_file(tmp_path / "source/model.safetensors"),
    )
    quantized = {name.removesuffix(".qweight") for name in written if name.endswith(".qweight")}
    assert len(quantized) == 14
    for linear in quantized:
        weight = original[f"{linear}.weight"].astype(float)
        found = decode(written, linear, scheme.bits, 1 if format_ == "gptq" else 0)
        step = np.abs(written[f"{linear}.scales"].astype(float).T[:, written[f"{linear}.g_idx"]])
        # Half a step is what rounding loses; a search for the least squares may clip the largest of a block.
        assert np.abs(found - weight).mean() < 0.5 * step.mean()
        assert written[f"{linear}.scales"].dtype == np.float16
        np.testing.assert_array_equal(written[f"{linear}.g_idx"], np.arange(weight.shape[1]) // scheme.block_size)
    for name, values in original.items():
        if name.removesuffix(".weight") not in quantized:
            np.testing.assert_array_equal(written[name], values)


def test_both_descriptions_agree(tmp_path: Path) -> None:
    result = emit(tmp_path / "out", source(tmp_path / "source"), QuantizationScheme(4, 64), "gptq", "cpu")
    assert result.emitted is not None
    said = json.loads((result.emitted / "quantize_config.json").read_text())
    config = json.loads((result.emitted / "config.json").read_text())
    assert config["quantization_config"] == said
    assert config["torch_dtype"] == "float16"
    for key, value in {
        "bits": 4, "group_size": 64, "desc_act": False, "sym": True, "lm_head": False, "method": "gptq",
        "quant_method": "gptq", "format": "gptq", "checkpoint_format": "gptq", "pack_dtype": "int32", "dynamic": None,
    }.items():  # fmt: skip
        assert said[key] == value
    assert said["meta"]["quantizer"][0].startswith("edgekit:")
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= {
        p.name for p in result.emitted.iterdir()
    }


def test_a_tied_head_is_written_as_well(tmp_path: Path) -> None:
    result = emit(tmp_path / "out", source(tmp_path / "source", "llama"), QuantizationScheme(), "gptq", "cpu")
    assert result.emitted is not None
    written = load_file(result.emitted / "model.safetensors")
    np.testing.assert_array_equal(written["lm_head.weight"], written["model.embed_tokens.weight"])


def test_linears_of_several_formats(tmp_path: Path) -> None:
    """A checkpoint whose o_proj has 8 bits is emitted with the same formats and codes, using GPTQModel's exceptions."""
    tiny = TinyGptq(
        stored_format="gptq_v2",
        quantize_config={"dynamic": {r"+:.*o_proj$": {"bits": 8}}},
        per_module=lambda name: {"bits": 8} if name.endswith("o_proj") else {},
    )
    first = build(None, "cpu", checkpoint=tiny.write(tmp_path / "tiny"), out=tmp_path / "first", emit="gptq_v2")
    assert first.emitted is not None
    said = json.loads((first.emitted / "quantize_config.json").read_text())
    key = r"+:^model\.layers\.0\.self_attn\.o_proj$"
    assert said["dynamic"][key] == {"bits": 8, "group_size": 32, "sym": True}
    given, written = load_file(tmp_path / "tiny/model.safetensors"), load_file(first.emitted / "model.safetensors")
    assert set(given) == set(written) - {"lm_head.weight"}
    for name, values in given.items():
        np.testing.assert_array_equal(written[name], values, err_msg=name)
    second = build(None, "cpu", checkpoint=first.emitted, out=tmp_path / "second")
    assert (first.artifact / "model.onnx.data").read_bytes() == (second.artifact / "model.onnx.data").read_bytes()


def test_a_zero_point_of_0_does_not_fit_version_1(tmp_path: Path) -> None:
    tiny = TinyGptq(symmetric=False, stored_format="gptq_v2")
    folder = tiny.write(tmp_path / "tiny")
    assert any((w.zeros == 0).any() for w in tiny.weights.values())
    with pytest.raises(BuildError, match="has a zero point of 0") as caught:
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", emit="gptq")
    assert "gptq_v2" in caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_float_linears_cannot_be_emitted(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="keeps them in float"):
        emit(tmp_path / "out", source(tmp_path / "source"), None, "gptq", "cpu")


def test_rotary_factors_are_refused_before_any_work() -> None:
    spec = spec_from_config(tiny_config("llama"))
    rope = replace(spec.rope, scaling="factors", factors=(1.0,) * (spec.head_dim // 2))
    four = QuantizationScheme()
    layout = plan_layout(spec, QuantizationConfig(four, four, four), "float32", 64)
    check_emittable(layout, spec)
    with pytest.raises(UnsupportedModelError, match="no place for the rotary factors") as caught:
        check_emittable(layout, replace(spec, rope=rope))
    assert "Hugging Face checkpoint" in caught.value.hint


def test_widths_that_do_not_fill_a_word(tmp_path: Path) -> None:
    checkpoint = source(tmp_path / "source", intermediate_size=100)
    with pytest.raises(UnsupportedModelError, match=r"gate_proj.weight is 100 x 128; .* packs 8 codes of 4 bits"):
        emit(tmp_path / "out", checkpoint, QuantizationScheme(), "gptq", "cpu")


def test_a_float_weight_beyond_float16(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama", **SHAPES))
    tensors["model.norm.weight"][3] = 1e6
    checkpoint = write_checkpoint(tmp_path / "source", "llama", tensors, **SHAPES)
    with pytest.raises(NonFiniteWeightError, match=r"model.norm.weight has a weight that is too large for float16"):
        emit(tmp_path / "out", checkpoint, QuantizationScheme(), "gptq", "cpu")


def test_a_checkpoint_that_is_there_is_kept_unless_forced(tmp_path: Path) -> None:
    checkpoint = source(tmp_path / "source")
    emit(tmp_path / "out", checkpoint, QuantizationScheme(), "gptq", "cpu")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    with pytest.raises(OutputExistsError, match="out-gptq already exists"):
        emit(tmp_path / "out", checkpoint, QuantizationScheme(), "gptq", "cpu")
    build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", emit="gptq", force=True)
    (tmp_path / "out-gptq" / "quantize_config.json").unlink()
    with pytest.raises(OutputExistsError, match=r"is not a folder with quantize_config\.json"):
        build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", emit="gptq", force=True)
