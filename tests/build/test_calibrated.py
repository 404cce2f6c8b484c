"""Builds with GPTQ: calibrated on the model's own answers or a file, interrupted, and failed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from build_outputs import FILES, leftovers
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.artifact.verify import verify
from edgekit.build.pipeline import build
from edgekit.errors import BuildError, CalibrationError, InterruptedBuildError, UsageError
from edgekit.scheme import QuantizationOverrides

GPTQ = {
    "quantization": QuantizationOverrides(method="gptq", scale=True, rotate=False), "calibration_tokens": 300,
    "gate": False,
}  # fmt: skip
UNSCALED = {"quantization": QuantizationOverrides(scale=False)}


def test_a_calibrated_artifact_is_complete_and_says_how(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    nearest = build(None, "cpu", checkpoint=folder, out=tmp_path / "nearest", gate=False).artifact
    phases: dict[str, float] = {}
    result = build(
        None, "cpu", checkpoint=folder, out=tmp_path / "out", threads=1,
        progress=lambda phase, done, total: phases.update({phase: done / total}), **GPTQ,
    )  # fmt: skip
    verify(result.artifact)
    assert {p.name for p in result.artifact.iterdir()} == FILES
    assert leftovers(tmp_path) == ["nearest", "out"], "the state of the calibration is removed"
    said = result.manifest.quantization
    assert said["method"] == "gptq"
    assert {key: said["calibration"][key] for key in ("source", "tokens", "inputs")} == {
        "source": "own answers", "tokens": 300, "inputs": "quantized",
    }  # fmt: skip
    assert phases["calibrating layers"] == phases["generating calibration texts"] == 1
    a, b = ((f / "model.onnx.data").read_bytes() for f in (nearest, result.artifact))
    assert len(a) == len(b)
    assert a != b
    again = build(None, "cpu", checkpoint=folder, out=tmp_path / "again", threads=1, **GPTQ)
    assert again.manifest.quantization == said, "the same answers every time"


def test_calibration_on_a_file(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", calibration=tmp_path / "text.txt", **GPTQ)
    assert result.manifest.quantization["calibration"]["source"] == "file"
    assert result.manifest.quantization["calibration"]["tokens"] == 300


def test_a_calibration_text_needs_a_method_that_reads_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    with pytest.raises(UsageError, match="the method rtn does not use"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", calibration=tmp_path / "text.txt", **UNSCALED)
    assert leftovers(tmp_path) == []


def test_an_interrupted_calibration_is_resumed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama", num_hidden_layers=3)

    def interrupt(phase: str, done: float, total: float) -> None:
        if phase == "calibrating layers" and done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedBuildError, match=r"is kept in .*\.out\.calibration") as caught:
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", threads=1, progress=interrupt, **GPTQ)
    assert "run the same command again" in caught.value.hint
    assert leftovers(tmp_path) == [".out.calibration"]
    reports: list[tuple[str, float]] = []
    resumed = build(
        None, "cpu", checkpoint=folder, out=tmp_path / "out", threads=1,
        progress=lambda phase, done, total: reports.append((phase, done)), **GPTQ,
    )  # fmt: skip
    assert min(done for phase, done in reports if phase == "calibrating layers") >= 1
    assert "generating calibration texts" not in dict(reports)
    assert leftovers(tmp_path) == ["out"]
    whole = build(None, "cpu", checkpoint=folder, out=tmp_path / "whole", threads=1, **GPTQ)
    a, b = ((r.artifact / "model.onnx.data").read_bytes() for r in (resumed, whole))
    assert a == b


def test_a_failed_calibration_leaves_nothing(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    for name in ("gate_proj", "up_proj"):
        tensors[f"model.layers.1.mlp.{name}.weight"] *= np.float32(1e25)
    folder = write_checkpoint(tmp_path / "checkpoint", "llama", tensors)
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    with pytest.raises(CalibrationError, match=r"layers\.1\.mlp\.down_proj are NaN or infinite"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", calibration=tmp_path / "text.txt", **GPTQ)
    assert leftovers(tmp_path) == ["text.txt"]


def test_a_checkpoint_that_version_1_cannot_hold_is_told_early_and_version_2_resumes(tmp_path: Path) -> None:
    shapes = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 2, "head_dim": 64}
    tensors = random_tensors(tiny_config("llama", **shapes, num_hidden_layers=3))
    weight = tensors["model.layers.1.mlp.down_proj.weight"]
    weight[:] = np.random.default_rng(1).uniform(0, 1, weight.shape) ** 3  # none is negative: its zero points are 0
    folder = write_checkpoint(tmp_path / "checkpoint", "llama", tensors, **shapes, num_hidden_layers=3)
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    asked = QuantizationOverrides(method="gptq", symmetric=False, rotate=False)
    reports: list[float] = []

    def run(out: str, emit: str) -> bytes:
        def progress(phase: str, done: float, total: float) -> None:
            reports.extend([done] if phase == "calibrating layers" else [])

        result = build(
            folder, "cpu", out=tmp_path / out, emit=emit, calibration=tmp_path / "text.txt", calibration_tokens=200,
            threads=1, quantization=asked, gate=False, progress=progress,
        )  # fmt: skip
        return (result.artifact / "model.onnx.data").read_bytes()

    with pytest.raises(BuildError, match=r"layers\.1\.mlp\.down_proj\.weight has a zero point of 0") as caught:
        run("out", "gptq")
    assert max(reports) <= 2, "the third layer was not calibrated"
    assert "use --emit gptq_v2" in caught.value.hint
    assert str(tmp_path / ".out.calibration") in caught.value.hint
    assert leftovers(tmp_path) == [".out.calibration", "text.txt"]
    reports.clear()
    resumed = run("out", "gptq_v2")
    assert min(reports) >= 2, "two layers were there"
    assert leftovers(tmp_path) == ["out", "out-gptq_v2", "text.txt"]
    assert resumed == run("fresh", "gptq_v2")
