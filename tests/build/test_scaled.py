"""Builds with scaled input features: measured against the unchanged checkpoint; better if features differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from quantizations import default_quantization
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.artifact.manifest import RuntimeFacts
from edgekit.artifact.verify import verify
from edgekit.build import steps
from edgekit.build.pipeline import build
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import UsageError
from edgekit.quality.evaluation import evaluate
from edgekit.scheme import QuantizationConfig, QuantizationOverrides, QuantizationScheme

NARROW, WIDE = QuantizationScheme(4, 32, symmetric=False), QuantizationScheme(8, 32, symmetric=True)


def outliers(family: str) -> dict[str, np.ndarray]:
    """Weights of a model with some features that are far larger than the others."""
    tensors = random_tensors(tiny_config(family))
    rng = np.random.default_rng(3)
    for name, w in tensors.items():
        if "layernorm" in name:
            w *= np.exp(rng.normal(0, 1.2, w.shape)).astype(np.float32)
    return tensors


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_scaling_loses_less(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", family, outliers(family))
    kl = {}
    for scale in (False, True):
        formats = QuantizationConfig(NARROW, WIDE, WIDE, scale=scale)
        result = build(None, "cpu", checkpoint=folder, out=tmp_path / f"{scale}", quantization=formats, gate=False)
        verify(result.artifact)
        kl[scale] = evaluate(result.artifact, folder).mean_kl
        assert result.manifest.quantization["scale"] is scale
        assert ("scaling" in result.manifest.quantization) is scale
    assert result.manifest.quantization["scaling"]["tokens"] > 100
    assert kl[True] < 0.7 * kl[False], kl


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("device", ["cpu", "jetson"])
def test_with_everything_else(tmp_path: Path, device: str, rotate: bool) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2", outliers("qwen2"))
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    formats = QuantizationConfig(NARROW, NARROW, NARROW, method="gptq", mean_bits=7.5, rotate=rotate, scale=True)
    result = build(
        None, device, checkpoint=folder, out=tmp_path / "out", quantization=formats,
        calibration=tmp_path / "text.txt", calibration_tokens=300,
    )  # fmt: skip
    verify(result.artifact)
    quality = result.manifest.quality
    assert quality is not None
    assert quality["mean_kl"] < 0.1
    assert all(loss < 0.2 for loss in quality["losses"].values())


def test_an_emitted_checkpoint_has_the_scaled_norms(tmp_path: Path) -> None:
    """The norms are float16, because the source's bfloat16 would round the scaled values."""
    shapes = {"hidden_size": 160, "intermediate_size": 320, "num_attention_heads": 4, "head_dim": 48,
              "num_key_value_heads": 2, "vocab_size": 320}  # fmt: skip
    config = tiny_config("qwen2", **shapes)
    tensors = {name: w.astype(ml_dtypes.bfloat16) for name, w in random_tensors(config).items()}
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2", tensors, **shapes)
    for scale, dtype in ((False, ml_dtypes.bfloat16), (True, np.float16)):
        result = build(
            None, "cpu", checkpoint=folder, out=tmp_path / f"{scale}", emit="gptq_v2", gate=False,
            quantization=QuantizationConfig(NARROW, WIDE, WIDE, scale=scale),
        )  # fmt: skip
        assert result.emitted is not None
        with open_checkpoint(result.emitted) as opened:
            norm = opened.rows("model.layers.0.input_layernorm.weight", 0, 160)
            assert norm.dtype == dtype
        again = build(None, "cpu", checkpoint=result.emitted, out=tmp_path / f"again-{scale}", gate=False,
                      quantization=default_quantization(embedding=WIDE, lm_head=WIDE))  # fmt: skip
        kl = [evaluate(artifact, folder).mean_kl for artifact in (result.artifact, again.artifact)]
        assert kl[1] == pytest.approx(kl[0], rel=0.02)


def test_what_resumes_depends_on_the_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts that scales are measured on are longer than those of widths, and may be longer than GPTQ's."""
    seen: list[dict[str, Any]] = []
    for name in ("measured_widths", "calibrated_layers"):
        real = getattr(steps, name)

        def watched(*arguments: Any, real: Any = real) -> Any:
            seen.extend(each.quantization for each in arguments if isinstance(each, RuntimeFacts))
            return real(*arguments)

        monkeypatch.setattr(steps, name, watched)
    made = build(
        None, "cpu", checkpoint=write_checkpoint(tmp_path / "checkpoint", "llama"), out=tmp_path / "out", gate=False,
        quantization=QuantizationOverrides(bits=6.0, method="gptq", scale=True, rotate=False), calibration_tokens=64,
    )  # fmt: skip
    assert [each["scaling"] for each in seen] == [made.manifest.quantization["scaling"]] * 2


def test_a_text_is_for_scaling_too(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    found = []
    for text in (None, tmp_path / "text.txt"):
        result = build(
            None, "cpu", checkpoint=folder, out=tmp_path / f"{text is None}", calibration=text, gate=False,
            quantization=QuantizationOverrides(scale=True),
        )  # fmt: skip
        found.append(result.manifest.quantization["scaling"])
    assert found[0]["tokens_sha256"] != found[1]["tokens_sha256"]
    with pytest.raises(UsageError, match="the method rtn does not use one"):
        build(
            None, "cpu", checkpoint=folder, out=tmp_path / "no", calibration=tmp_path / "text.txt",
            quantization=QuantizationOverrides(scale=False),
        )  # fmt: skip
