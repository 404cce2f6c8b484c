"""Engines on a GPU answer only where they are proven."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pretended_gpu import ADAPTER, pretended_gpu, with_fault

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import AcceleratorError, EngineProofNotice
from edgekit.runtime import accelerated
from edgekit.runtime.engine import EngineOptions

OPTIONS = EngineOptions(context=64, threads=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


def test_a_proven_engine_has_its_verdict_and_says_what_it_runs_on(built_artifact: Path) -> None:
    with pytest.warns(EngineProofNotice):
        engine = pretended_gpu().open(built_artifact, read_manifest(built_artifact), OPTIONS)
    assert engine.verdict.passed
    assert engine.kernel.endswith(", Pretended GPU")
    assert engine.evaluate([1, 2, 3]).shape == (1, engine.vocab_size)
    engine.close()


def test_a_device_that_computes_wrong_results_is_refused_each_time(built_artifact: Path, tmp_path: Path) -> None:
    with_fault(built_artifact, "model.layers.1.attn.o_proj.scales", tmp_path / "fault")
    engine, manifest = pretended_gpu(tmp_path / "fault"), read_manifest(built_artifact)
    with (
        pytest.warns(EngineProofNotice),
        pytest.raises(
            AcceleratorError, match=r"Pretended on Pretended GPU \(driver 1\.2\.3\) computes wrong results: "
        ),
    ):
        engine.open(built_artifact, manifest, OPTIONS)
    with pytest.raises(AcceleratorError, match="computes wrong results") as caught:
        engine.open(built_artifact, manifest, OPTIONS)  # from the kept verdict
    assert "--engine native" in caught.value.hint


def test_float16_needs_float16_shaders(built_artifact: Path) -> None:
    engine = pretended_gpu(adapter=replace(ADAPTER, float16=False))
    manifest = replace(read_manifest(built_artifact), activation_type="float16")
    with pytest.raises(AcceleratorError, match="computes in float16, for which Pretended GPU has no shaders") as caught:
        engine.open(built_artifact, manifest, OPTIONS)
    assert "float32 artifact" in caught.value.hint


def test_a_gpu_that_shares_the_memory_does_not_leave_the_file_in_the_systems_cache(
    built_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[Path] = []
    monkeypatch.setattr(accelerated, "drop_from_cache", dropped.append)
    manifest = read_manifest(built_artifact)
    with pytest.warns(EngineProofNotice):
        pretended_gpu().open(built_artifact, manifest, OPTIONS).close()
    assert dropped == []
    pretended_gpu(adapter=replace(ADAPTER, shares_memory=True)).open(built_artifact, manifest, OPTIONS).close()
    assert dropped == [built_artifact / "model.onnx.data"]


def test_a_context_that_does_not_fit_shows_in_the_logits(built_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WebGPU opens a cache that does not fit, reports nothing, and reads zeros from it."""
    engine, manifest = pretended_gpu(), read_manifest(built_artifact)
    with pytest.warns(EngineProofNotice):
        engine.open(built_artifact, manifest, OPTIONS).close()
    evaluate = engine.evaluate
    monkeypatch.setattr(engine, "evaluate", lambda self, ids: 0 * evaluate(self, ids))
    with pytest.raises(AcceleratorError, match="is wrong with a context of 64 positions, and right") as caught:
        engine.open(built_artifact, manifest, OPTIONS)
    assert "smaller --context" in caught.value.hint
