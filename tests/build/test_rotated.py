"""Builds of rotated weights: the same function, measured against the unchanged checkpoint."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.artifact.verify import verify
from edgekit.build.pipeline import build
from edgekit.planning.planner import plan
from edgekit.quality.evaluation import evaluate
from edgekit.runtime.loading import load
from edgekit.sampling import Sampling
from edgekit.scheme import QuantizationConfig, QuantizationScheme

WIDE = QuantizationScheme(8, 32, symmetric=True)
NARROW = QuantizationScheme(4, 32, symmetric=False)


EIGHT_BITS = QuantizationConfig(WIDE, WIDE, WIDE, rotate=True, scale=True)


@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("qwen2", False), ("qwen2", True)])
@pytest.mark.parametrize("device", ["cpu", "jetson"])
def test_a_rotated_build(tmp_path: Path, family: str, tied: bool, device: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", family, tie_word_embeddings=tied)
    result = build(None, device, checkpoint=folder, out=tmp_path / "out", quantization=EIGHT_BITS)
    verify(result.artifact)
    quality = result.manifest.quality
    assert quality is not None
    assert quality["mean_kl"] < 2e-3, "8 bits lose little, in whatever basis"
    assert result.manifest.quantization["rotate"] is True
    config = json.loads((result.artifact / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    losses = quality["losses"]
    assert list(losses) == ["embedding", "layers.0", "layers.1", "lm_head"]
    assert all(0 < loss < 0.03 for loss in losses.values()), "each part alone, on the float model's hidden states"
    on_demand = evaluate(result.artifact, folder)
    assert quality["mean_kl"] == pytest.approx(on_demand.mean_kl, rel=1e-4)
    golden = result.manifest.golden
    assert golden is not None
    for engine in ("native", "ort"):
        with load(result.artifact, engine=engine) as session:
            greedy = Sampling(temperature=0)
            answer = session.generate(golden["prompt_ids"], max_tokens=1, sampling=greedy).complete()
        assert answer.tokens == golden["continuation_ids"][:1]


def outliers(family: str) -> dict[str, np.ndarray]:
    """Weights whose hidden states have a few features that are far larger than the others, as in real models."""
    tensors = random_tensors(tiny_config(family))
    for name, w in tensors.items():
        if "o_proj.weight" in name or "down_proj.weight" in name:
            w[5:8] *= 30
        if name == "model.embed_tokens.weight":
            w[:, 5:8] *= 30
    return tensors


def test_outliers_cost_less_in_another_basis(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2", outliers("qwen2"))
    kl = {}
    for rotate in (False, True):
        formats = QuantizationConfig(NARROW, NARROW, WIDE, rotate=rotate)
        result = build(
            None, "cpu", checkpoint=folder, out=tmp_path / str(rotate), quantization=formats, gate=False
        )  # fmt: skip
        kl[rotate] = evaluate(result.artifact, folder).mean_kl
    assert kl[True] < 0.7 * kl[False], kl


@pytest.mark.parametrize("method", ["rtn", "gptq"])
def test_with_calibration_widths_and_an_emitted_checkpoint(tmp_path: Path, method: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama", hidden_size=160, num_attention_heads=4,
                              num_key_value_heads=2, head_dim=48, vocab_size=320)  # fmt: skip
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    blocks = QuantizationScheme(4, 32, symmetric=True)
    formats = QuantizationConfig(blocks, blocks, blocks, method=method, mean_bits=8.0, rotate=True)
    result = build(
        None, "cpu", checkpoint=folder, out=tmp_path / "out", quantization=formats, emit="gptq",
        calibration=tmp_path / "text.txt", calibration_tokens=300 if method == "gptq" else None, gate=False,
    )  # fmt: skip
    verify(result.artifact)
    assert result.manifest.bits_per_weight <= 8.0
    assert "lm_head" in result.manifest.quantization["widths"]["losses"]
    assert result.emitted is not None
    again = build(None, "cpu", checkpoint=result.emitted, out=tmp_path / "again", gate=False)
    assert again.manifest.quantization["rotate"] is False, "it is in that basis already"
    assert evaluate(again.artifact, result.emitted).mean_kl == pytest.approx(0, abs=0.02)
    assert evaluate(result.artifact, folder).mean_kl < 1


def test_a_plan_has_both_tables(tmp_path: Path) -> None:
    from edgekit.devices import load_device
    from edgekit.recipes import load_recipe

    recipe, device = load_recipe("smollm2-135m"), load_device("raspberry-pi-5-8gb")
    plain = plan(recipe, device)
    rotated = plan(
        dataclasses.replace(recipe, quantization=dataclasses.replace(recipe.quantization, rotate=True)), device
    )
    more = rotated.memory.weights - plain.memory.weights
    table = 49152 * 576 * (1 + 4 / 32)
    assert more == pytest.approx(table, rel=0.25)
    assert rotated.bits_per_weight > plain.bits_per_weight + 1
