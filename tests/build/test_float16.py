"""Builds for float16 of models whose activations overflow it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.build import steps
from edgekit.build.pipeline import build
from edgekit.errors import CalibrationError, QualityError
from edgekit.runtime.engine import EngineOptions, open_engine
from edgekit.scheme import QuantizationOverrides

IDS = [5, 6, 7, 8, 9, 10, 11]
FLOAT_EMBEDDING = 0.05  # an emitted checkpoint has the embedding in float, and the second build rounds it anew
HALF = 2e-2  # rounding of float16 activations, relative to the spread of the logits


def overflowing(folder: Path, *, family: str = "qwen2", gate: float = 0, **changes: object) -> Path:
    """A checkpoint that writes millions into one feature of the residual stream, and takes them out again."""
    config = tiny_config(family, **changes)
    tensors = random_tensors(config)
    for layer, sign in ((0, 1), (1, -1)):
        at = f"model.layers.{layer}.mlp."
        tensors[f"{at}up_proj.weight"][0] *= 100
        tensors[f"{at}down_proj.weight"][3, 0] = 2e3 * sign
        tensors[f"{at}gate_proj.weight"][1] += gate
    return write_checkpoint(folder, family, tensors, **changes)


def logits(artifact: Path, engine: str) -> np.ndarray:
    opened = open_engine(
        artifact, read_manifest(artifact), EngineOptions(context=64, all_logits=True, threads=1), engine
    )
    try:
        return np.asarray(opened.evaluate(IDS))
    finally:
        opened.close()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_the_residual_stream_is_scaled(tmp_path: Path, tied: bool, scale: bool) -> None:
    checkpoint = overflowing(tmp_path / "model", tie_word_embeddings=tied)
    heard: dict[str, list[str]] = {"jetson": [], "cpu": []}
    eight = QuantizationOverrides(bits=8, scale=scale)
    half, full = (
        build(
            None, device, checkpoint=checkpoint, out=tmp_path / device, quantization=eight, gate=False,
            on_notes=heard[device].extend,
        ).artifact
        for device in heard
    )  # fmt: skip
    assert heard["cpu"] == []
    assert "overflow float16" in heard["jetson"][0]
    assert "layers." in heard["jetson"][0]
    manifest = read_manifest(half)
    assert manifest.notes == heard["jetson"]
    assert manifest.quantization["activation_scale"]["residual"] < 1
    assert "activation_scale" not in read_manifest(full).quantization
    assert "NaN" not in (half / "edgekit.json").read_text()
    expected = logits(full, "ort")
    spread = expected.std()
    for engine in ("ort", "native"):
        assert np.abs(logits(half, engine) - expected).max() < HALF * spread * 5


@pytest.mark.slow
def test_the_gate_measures_it_against_the_unscaled_model(tmp_path: Path) -> None:
    result = build(None, "jetson", checkpoint=overflowing(tmp_path / "model"), out=tmp_path / "out")
    assert result.manifest.quality is not None
    assert result.manifest.quality["mean_kl"] < 0.1
    assert all(loss is not None and loss < 1 for loss in result.manifest.quality["losses"].values())


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_an_emitted_checkpoint_has_the_norms_epsilon_that_fits_its_weights(tmp_path: Path, family: str) -> None:
    checkpoint = overflowing(tmp_path / "model", family=family)
    quantization = QuantizationOverrides(bits=4, symmetric=True, scale=False)
    result = build(
        None, "jetson", checkpoint=checkpoint, out=tmp_path / "out", quantization=quantization, emit="gptq", gate=False
    )
    assert result.emitted is not None
    factor = result.manifest.quantization["activation_scale"]["residual"]
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (checkpoint, result.emitted))
    assert after["rms_norm_eps"] == before["rms_norm_eps"] * factor**2
    told = any("norms of query and key heads" in note for note in result.manifest.notes)
    assert told is (family == "qwen3"), "qwen3's norms of heads keep their epsilon in the artifact"
    again = build(None, "cpu", checkpoint=result.emitted, out=tmp_path / "again", gate=False)
    expected = logits(result.artifact, "native")
    assert np.abs(logits(again.artifact, "native") - expected).max() < FLOAT_EMBEDDING * expected.std()


def test_what_cannot_be_scaled_is_refused(tmp_path: Path) -> None:
    checkpoint = overflowing(tmp_path / "model", gate=3e4)
    with pytest.raises(CalibrationError, match=r"float16 overflows: the gate of layers\.[01]"):
        build(None, "jetson", checkpoint=checkpoint, out=tmp_path / "out", gate=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", gate=False)


def test_a_golden_answer_of_nan_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an overflow escapes the measurement, nothing that is not a number is recorded."""
    monkeypatch.setattr(steps, "fit_float16", lambda job, weights, facts: (job, weights, {}, None))
    with pytest.raises(QualityError, match=r"NaN or infinity in layers\.\d or before it.*float16") as caught:
        build(None, "jetson", checkpoint=overflowing(tmp_path / "model"), out=tmp_path / "out", gate=False)
    assert "float32" in caught.value.hint
