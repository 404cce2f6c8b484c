"""Builds that choose the width of each matrix by its loss, for a given mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from quantizations import default_quantization
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.verify import verify
from edgekit.build.pipeline import BuildResult, build
from edgekit.errors import InterruptedBuildError, UsageError
from edgekit.scheme import QuantizationOverrides

MEAN = {"quantization": QuantizationOverrides(bits=7.0), "gate": False}


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_widths_by_loss_within_a_mean(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", family)
    plans: list[float] = []
    result = build(
        None, "cpu", checkpoint=folder, out=tmp_path / "out", on_plan=lambda plan: plans.append(plan.bits_per_weight),
        **MEAN,
    )  # fmt: skip
    verify(result.artifact)
    said = result.manifest.quantization
    assert 6.0 < result.manifest.bits_per_weight <= 7.0
    assert len(plans) == 2, "before the measurement and after it"
    assert plans[1] == pytest.approx(result.manifest.bits_per_weight, abs=1e-4)
    assert said["mean_bits"] is None, "nothing is left to be chosen"
    widths = said["widths"]
    assert widths["mean_bits"] == 7.0
    assert 64 <= widths["tokens"] <= 128
    assert len(widths["losses"]) == 10
    assert all(loss > 0 for loss in widths["losses"].values())
    again = build(None, "cpu", checkpoint=folder, out=tmp_path / "again", **MEAN)
    assert (again.artifact / "model.onnx.data").read_bytes() == (result.artifact / "model.onnx.data").read_bytes()


def test_widths_by_loss_on_a_text_and_calibrated(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    found = {}
    for method in ("rtn", "gptq"):
        asked = {"quantization": default_quantization(False, mean_bits=7.0, method=method)}
        result = build(
            None, "cpu", checkpoint=folder, out=tmp_path / method, calibration=tmp_path / "text.txt",
            calibration_tokens=300 if method == "gptq" else None, gate=False, **asked,
        )  # fmt: skip
        verify(result.artifact)
        assert result.manifest.bits_per_weight <= 7.0
        found[method] = result.manifest.quantization
    assert found["rtn"]["widths"] == found["gptq"]["widths"], "measured the same way, on the same text"
    assert "calibration" in found["gptq"]
    prompts = build(None, "cpu", checkpoint=folder, out=tmp_path / "prompts", **MEAN).manifest.quantization
    assert prompts["widths"]["losses"] != found["rtn"]["widths"]["losses"]


def test_losses_are_kept_for_a_resumed_build(tmp_path: Path) -> None:
    """The build is interrupted during calibration, after the widths were chosen."""
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2", num_hidden_layers=3)
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)

    def run(out: str, mean: float, progress: Callable[[str, float, float], None]) -> BuildResult:
        return build(
            None, "cpu", checkpoint=folder, out=tmp_path / out, calibration=tmp_path / "text.txt",
            calibration_tokens=300, gate=False, progress=progress,
            quantization=default_quantization(False, mean_bits=mean, method="gptq"),
        )  # fmt: skip

    def interrupt(phase: str, done: float, total: float) -> None:
        if phase == "calibrating layers" and done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedBuildError):
        run("out", 7.0, interrupt)
    assert (tmp_path / ".out.widths").is_file()
    phases: set[str] = set()
    resumed = run("out", 7.0, lambda phase, *_: phases.add(phase))
    assert "measuring the loss of each matrix" not in phases
    assert not (tmp_path / ".out.widths").exists()
    whole = run("whole", 7.0, lambda *_: None)
    assert resumed.manifest.quantization == whole.manifest.quantization


def test_a_mean_out_of_reach(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    for mean, words in ((4.1, "a mean of 4.1 bits"), (12.0, "a mean of 12 bits")):
        with pytest.raises(UsageError, match=words):
            build(
                None, "cpu", checkpoint=folder, out=tmp_path / "out",
                quantization=QuantizationOverrides(bits=mean),
            )  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
