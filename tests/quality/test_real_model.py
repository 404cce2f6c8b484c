"""A real model of R1-Distill-Qwen-1.5B's shape: builds stay within the limits that the R1 recipes set.

Random weights have neither the outliers of a trained Qwen2 nor answers that end. These tests need the model that
docs/quality.md names and some minutes each: EDGEKIT_REAL_MODEL=FILE.gguf pytest -m real_model.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import edgekit
from edgekit.recipes import load_recipe
from edgekit.scheme import QuantizationOverrides

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def real_model() -> Path:
    """The model's file."""
    path = os.environ.get("EDGEKIT_REAL_MODEL")
    if not path:
        pytest.skip("EDGEKIT_REAL_MODEL is not set; docs/quality.md says which model it names")
    return Path(path)


@pytest.mark.parametrize("device", ["cpu", "jetson-agx-orin-64gb"])
def test_builds_stay_within_the_limits_of_the_r1_recipes(real_model: Path, tmp_path: Path, device: str) -> None:
    """In float32 for the host, and in float16 for a board that computes in it."""
    limits = load_recipe("deepseek-r1-distill-qwen-1.5b").quality
    result = edgekit.build(
        checkpoint=real_model, device=device, quantization=QuantizationOverrides(scale=True), out=tmp_path / "built"
    )
    quality = result.manifest.quality
    assert quality is not None
    assert quality["mean_kl"] < limits.max_mean_kl
    assert quality["p99_kl"] < limits.max_p99_kl
    assert quality["perplexity_ratio"] < limits.max_perplexity_ratio
    assert quality["top1"] > limits.min_top1
    assert [a["finish_reason"] for a in quality["answers"]] == ["stop"] * 3
