"""The reference of eval: the model that the artifact was built from, with its adapters and its attention factor."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from invoke import Invoke
from tiny_checkpoint import write_checkpoint
from tiny_lora import factors, write_adapter

from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, TensorMismatchError, UsageError
from edgekit.models import spec_from_config
from edgekit.quality.evaluation import evaluate
from edgekit.quality.reference import open_reference
from edgekit.scheme import QuantizationConfig, QuantizationOverrides

TEXT = "What is the capital of France? The capital of France is Paris. " * 6
EXACT = 1e-5  # nats: an artifact in float against its own float model
Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path]]:
    """An artifact in float, the checkpoint without the adapters, and the two adapters."""
    folder = tmp_path_factory.mktemp("merged")
    base = write_checkpoint(folder / "base", "qwen2")
    adapters = [
        write_adapter(folder / "one", factors(Q, 144, 144)), write_adapter(folder / "two", factors(UP, 200, 144)),
    ]  # fmt: skip
    none = QuantizationConfig.none()
    built = build(base, "cpu", lora=adapters, out=folder / "out", quantization=none, gate=False)
    return built.artifact, base, adapters


def test_the_adapters_are_merged_into_the_reference(merged: tuple[Path, Path, list[Path]]) -> None:
    artifact, base, adapters = merged
    assert abs(evaluate(artifact, base, TEXT, lora=adapters, chunk_tokens=64).mean_kl) < EXACT


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_adapters_is_refused(merged: tuple[Path, Path, list[Path]], count: int) -> None:
    artifact, base, adapters = merged
    given = f"{count} were given" if count else "--lora was not given"
    with pytest.raises(UsageError, match=rf"2 adapters merged \(.*one, .*two\), and {given}") as e:
        evaluate(artifact, base, TEXT, lora=[*adapters, adapters[0]][:count])
    assert f"--lora {adapters[0]} --lora {adapters[1]}" in e.value.hint


def test_adapters_in_another_order_are_refused(merged: tuple[Path, Path, list[Path]]) -> None:
    artifact, base, adapters = merged
    with pytest.raises(TensorMismatchError, match=r"sha256 of the adapter .*two is .*whose sha256 is"):
        evaluate(artifact, base, TEXT, lora=adapters[::-1])


@pytest.mark.parametrize(
    "change",
    [{"lora_alpha": 1}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 2}}],
    ids=lambda change: next(iter(change)),
)
def test_an_adapter_with_other_settings_is_refused(
    tmp_path: Path, merged: tuple[Path, Path, list[Path]], change: dict[str, object]
) -> None:
    artifact, base, adapters = merged
    other = write_adapter(tmp_path / "other", factors(Q, 144, 144), **change)
    with pytest.raises(TensorMismatchError, match=f"{next(iter(change)).removeprefix('lora_')} of the adapter .*other"):
        evaluate(artifact, base, TEXT, lora=[other, adapters[1]])


def test_what_is_no_adapter(merged: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    artifact, base, adapters = merged
    for wrong in (base, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="is not a LoRA adapter"):
            evaluate(artifact, base, TEXT, lora=[wrong, adapters[1]])


def test_adapters_of_an_artifact_that_has_none(tmp_path: Path, merged: tuple[Path, Path, list[Path]]) -> None:
    _, base, adapters = merged
    built = build(base, "cpu", out=tmp_path / "out", quantization=QuantizationConfig.none(), gate=False)
    with pytest.raises(UsageError, match="was built without adapters"):
        evaluate(built.artifact, base, TEXT, lora=adapters[0])


def test_the_command_line(
    merged: tuple[Path, Path, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    artifact, base, adapters = merged
    (tmp_path / "text.txt").write_text(TEXT)
    invoke = Invoke(monkeypatch, capfdbinary)
    command = ("eval", artifact, "--reference", base, "--text", tmp_path / "text.txt", "--chunk-tokens", 64, "--json")
    done = invoke(*command, "--lora", adapters[0], "--lora", adapters[1])
    assert done.exit_code == 0, done.stderr
    assert abs(done.json()["mean_kl"]) < EXACT
    refused = invoke(*command)
    assert refused.exit_code == UsageError.exit_code
    assert "was built with 2 adapters" in refused.json()["error"]["message"]


def recipe_of(checkpoint: Path, folder: Path, attn_factor: float) -> Path:
    """A recipe of a YaRN model that states the attn_factor which the checkpoint's config.json lacks."""
    config = json.loads((checkpoint / "config.json").read_text())
    config["rope_scaling"] = {**YARN, "attn_factor": attn_factor}
    parameters = spec_from_config(config).parameters
    tables = {"config": config, "config.rope_scaling": config.pop("rope_scaling")}
    part = "{bits = 8, block_size = 32, symmetric = true}"
    lines = ['title = "t"', 'licence = "x"', f"parameters = {parameters}", "reasoning = false", "max_context = 128"]
    lines += ["[source]", 'kind = "folder"', f"path = {json.dumps(str(checkpoint))}"]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None)]
    lines += ["[quantization]", 'method = "rtn"', *(f"{name} = {part}" for name in ("linear", "embedding", "lm_head"))]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines))
    return path


def test_the_recipes_attention_factor_is_used(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen3", rope_scaling=YARN)
    recipe = recipe_of(checkpoint, tmp_path, 0.5)
    built = build(recipe, "cpu", out=tmp_path / "out", quantization=QuantizationConfig.none(), gate=False)
    assert abs(evaluate(built.artifact, checkpoint, TEXT, chunk_tokens=64).mean_kl) < EXACT
    plain = build(checkpoint, "cpu", out=tmp_path / "plain", quantization=QuantizationConfig.none(), gate=False)
    manifest, own = read_manifest(built.artifact), read_manifest(plain.artifact)
    with open_reference(checkpoint, (), manifest) as (_, spec):
        assert spec.rope.attention_factor == manifest.model["rope"]["attention_factor"]
    with open_reference(checkpoint, (), own) as (opened, spec):
        assert spec == spec_from_config(opened.config)
    older = dataclasses.replace(manifest, model={k: v for k, v in manifest.model.items() if k != "rope"})
    with open_reference(checkpoint, (), older) as (opened, spec):
        assert spec == spec_from_config(opened.config)


def test_another_attention_factor_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen3", rope_scaling=YARN)
    eight = QuantizationOverrides.of_width(8)
    built = build(checkpoint, "cpu", out=tmp_path / "out", quantization=eight, gate=False)
    other = write_checkpoint(tmp_path / "other", "qwen3", rope_scaling=YARN | {"attn_factor": 0.5})
    with open_checkpoint(other) as opened:
        factor = spec_from_config(opened.config).rope.attention_factor
    with pytest.raises(TensorMismatchError, match=rf"attention factor of .*other is {factor:.4}"):
        evaluate(built.artifact, other, TEXT)
