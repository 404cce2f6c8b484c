"""--lora: builds and plans of merged models."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from invoke import Invoke
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint
from tiny_gptq import TinyGptq
from tiny_lora import factors, merged_linear, write_adapter

import edgekit
from edgekit.artifact.manifest import read_manifest
from edgekit.build import adapters as module
from edgekit.build.adapters import open_adapters
from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.hub import HubFiles
from edgekit.errors import (
    CheckpointError,
    EdgekitError,
    SourceError,
    TensorMismatchError,
    UnsupportedModelError,
    UsageError,
)
from edgekit.models import spec_from_config
from edgekit.quality.compare import Passage, compare
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.scheme import QuantizationOverrides
from edgekit.weights.checkpoint import CheckpointWeights

Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"
TEXT = "The capital of France is Paris. What is the capital of Italy? Rome. " * 8
EIGHT = QuantizationOverrides.of_width(8)


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A base model, an adapter that changes its answers, and the merged model in float."""
    folder = tmp_path_factory.mktemp("lora")
    plain = random_tensors(tiny_config("qwen2"))
    parts = {Q: factors(Q, 144, 144), UP: factors(UP, 200, 144, seed=5)}
    base = write_checkpoint(folder / "base", "qwen2", plain)
    adapter = write_adapter(folder / "adapter", {name: t for found in parts.values() for name, t in found.items()})
    for name, found in parts.items():
        plain[f"{name}.weight"] = merged_linear(plain[f"{name}.weight"], *found.values(), scale=4).astype(np.float32)
    return base, adapter, write_checkpoint(folder / "twin", "qwen2", plain)


def mean_kl(artifact: Path, checkpoint: Path) -> float:
    """The distance from any checkpoint. ``evaluate`` takes only the one that the artifact was built from."""
    manifest = read_manifest(artifact)
    ids = Tokenizer.open(artifact, manifest.tokens).encode(TEXT)[:128]
    with open_checkpoint(checkpoint) as opened:
        spec = spec_from_config(opened.config)
        weights = CheckpointWeights(opened, spec)
        return compare(artifact, manifest, weights, spec, [Passage(ids, 32)], 1).figures.mean_kl


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Invoke:
    return Invoke(monkeypatch, capfdbinary)


def test_an_artifact_computes_the_merged_function(tmp_path: Path, merged: tuple[Path, Path, Path]) -> None:
    base, adapter, twin = merged
    result = edgekit.build(base, "cpu", lora=[adapter], out=tmp_path / "out", quantization=EIGHT, gate=False)
    assert mean_kl(result.artifact, twin) < 0.02
    assert mean_kl(result.artifact, base) > 0.2
    (recorded,) = result.manifest.source["adapters"]
    assert (recorded["path"], recorded["r"], recorded["alpha"]) == (str(adapter), 4, 16)
    assert len(recorded["sha256"]) == 64
    assert result.manifest.source["files"]["adapters/0/adapter_model.safetensors"]["sha256"] == recorded["sha256"]
    assert any("merged into 2 tensors" in note for note in result.manifest.notes)


@pytest.mark.slow
def test_calibration_and_quality_see_the_merged_model(tmp_path: Path, merged: tuple[Path, Path, Path]) -> None:
    base, adapter, twin = merged
    asked = QuantizationOverrides(method="gptq")
    options = {"quantization": asked, "calibration_tokens": 128, "quality_tokens": 60}
    own = edgekit.build(base, "cpu", lora=[adapter], out=tmp_path / "own", **options)
    same = edgekit.build(twin, "cpu", out=tmp_path / "same", **options)
    assert own.manifest.quality is not None
    assert same.manifest.quality is not None
    assert own.manifest.quality["mean_kl"] == pytest.approx(same.manifest.quality["mean_kl"], rel=0.02)


def test_a_plan_checks_the_adapter(tmp_path: Path, merged: tuple[Path, Path, Path], invoke: Invoke) -> None:
    base, adapter, _ = merged
    planned = invoke("plan", base, "--device", "cpu", "--lora", adapter, "--json")
    assert planned.exit_code == 0
    assert any("is merged into 2 tensors" in note for note in planned.json()["notes"])
    with pytest.raises(TensorMismatchError, match=r"does not have|with shape"):
        edgekit.plan("r1-1.5b", "jetson", lora=[adapter])
    fits = write_adapter(tmp_path / "fits", factors(Q, 1536, 1536))
    assert edgekit.plan("r1-1.5b", "jetson", lora=[fits]).memory == edgekit.plan("r1-1.5b", "jetson").memory


def test_a_tied_recipe_gets_a_head(tmp_path: Path) -> None:
    tensors = {
        "model.embed_tokens.lora_embedding_A": np.ones((4, 49152), np.float32),
        "model.embed_tokens.lora_embedding_B": np.ones((576, 4), np.float32),
    }
    adapter = write_adapter(tmp_path, tensors)
    plain, changed = edgekit.plan("smollm2-135m", "jetson"), edgekit.plan("smollm2-135m", "jetson", lora=[adapter])
    assert changed.memory.weights > plain.memory.weights


def test_what_cannot_be_merged(tmp_path: Path, merged: tuple[Path, Path, Path]) -> None:
    _, adapter, _ = merged
    codes = TinyGptq().write(tmp_path / "codes")
    fits = write_adapter(tmp_path / "fits", factors(Q, 128, 128))
    with pytest.raises(UnsupportedModelError, match="codes of this GPTQ checkpoint are copied unchanged"):
        edgekit.build(codes, "cpu", lora=[fits], out=tmp_path / "out")
    with pytest.raises(UsageError, match="--lora was given without a model"):
        edgekit.build(device="cpu", lora=[adapter])
    assert not (tmp_path / "out").exists()


def test_where_adapters_come_from(
    tmp_path: Path, merged: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter, _ = merged
    names = ["adapter_config.json", "adapter_model.safetensors"]
    monkeypatch.setattr(module, "list_hub", lambda repository, _: HubFiles(repository, "0" * 40, tuple(names)))
    monkeypatch.setattr(module, "fetch_hub", lambda *_: adapter)
    with ExitStack() as stack:
        for name in (adapter, str(adapter), adapter / "adapter_model.safetensors", "someone/adapter", "hf.co/a/b"):
            (opened,) = open_adapters([name], stack)
            assert opened.folder == adapter
            assert opened.name == str(name)
        names[:] = ["config.json"]
        with pytest.raises(SourceError, match="someone/model is not a LoRA adapter"):
            open_adapters(["someone/model"], stack)
        with pytest.raises(CheckpointError, match="does not exist") as caught:
            open_adapters(["./nowhere"], stack)
        assert "adapter_config.json and adapter_model.safetensors" in caught.value.hint
        with pytest.raises(CheckpointError, match="is not a folder"):
            open_adapters([base / "config.json"], stack)
        with pytest.raises(EdgekitError, match="too long"):
            open_adapters(["x" * 300], stack)
        with pytest.raises(CheckpointError, match=r"it has no adapter_config\.json") as caught:
            open_adapters([base], stack)
        assert "MODEL the model" in caught.value.hint


def test_the_command_line(tmp_path: Path, merged: tuple[Path, Path, Path], invoke: Invoke) -> None:
    base, adapter, _ = merged
    done = invoke(
        "build", base, "--device", "cpu", "--lora", adapter, "--lora", adapter, "--no-gate", "--out", tmp_path / "out",
        "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "merged into 2 tensors" in done.stderr
    source = json.loads((tmp_path / "out" / "edgekit.json").read_text())["source"]
    assert len(source["adapters"]) == 2
    names = ("adapter_config.json", "adapter_model.safetensors")
    assert set(source["files"]) == {"model.safetensors", *(f"adapters/{i}/{name}" for i in (0, 1) for name in names)}
    assert invoke("plan", "--device", "cpu", "--lora", adapter).exit_code == 2
