"""The proof: what it catches, the ways out it finds, and what it keeps."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from pretended_gpu import ADAPTER, pretended_gpu, weight_slots, with_fault
from shared_models import SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import AcceleratorError, EngineProofNotice
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.proof.kernels import Comparison, Kernel
from edgekit.runtime.proof.prove import (
    INT8_TOLERANCE,
    _open_reference,
    describe_wrong,
    logits_error,
    mean_kl,
    new_verdict,
    prove,
    ways_out,
)
from edgekit.runtime.proof.verdict import Subject, Verdict
from edgekit.runtime.provider import Provider, Setup
from edgekit.runtime.webgpu_engine import WebgpuEngine

SUBJECT = Subject("pretended", "Pretended GPU", "1.2.3", "1", "artifact")
WEBGPU = WebgpuEngine.provider


def verdict_of(folder: Path, weights: Path | None = None) -> Verdict:
    return new_verdict(pretended_gpu(weights), folder, read_manifest(folder), EngineOptions(threads=1), SUBJECT)


def test_a_right_device_passes(built_artifact: Path) -> None:
    found = verdict_of(built_artifact)
    assert found.passed
    assert found.setup == Setup(512)
    assert (found.wrong, found.kernel_error < 1e-5, found.logits_error is not None) == ((), True, True)
    assert found.detail.startswith(f"{found.kernels} kernels at {found.sizes} sizes and the logits of")


# A weight of each kind whose fault only the logits show, because its kernel is proven with another layer's weights.
@pytest.mark.parametrize(
    "weight",
    ["model.layers.1.attn.o_proj.scales", "model.layers.1.mlp.gate_up_proj.codes", "model.layers.1.input_norm.weight"],
)
def test_a_wrong_weight_on_the_device_is_caught(built_artifact: Path, tmp_path: Path, weight: str) -> None:
    with_fault(built_artifact, weight, tmp_path)
    found = verdict_of(built_artifact, tmp_path)
    assert not found.passed
    assert "the logits differ from the processor's by" in found.detail


# Not caught of 34: bits that pad the zero points of an odd number of blocks, which nothing reads, and in float32 one
# code that changes the logits by 9e-4 of their spread. Float16 has fewer digits, so less shows.
@pytest.mark.slow
@pytest.mark.parametrize(("device", "least"), [("cpu", 30), ("jetson", 19)])
def test_most_single_faults_are_caught(models: SharedModels, tmp_path: Path, device: str, least: int) -> None:
    folder = models.artifact(device=device)
    caught = 0
    weights = list(weight_slots(folder))
    for seed, weight in enumerate(weights):
        with_fault(folder, weight, tmp_path, seed)
        caught += not verdict_of(folder, tmp_path).passed
    print(f"{caught} of {len(weights)} faults of one element are caught ({device})")
    assert len(weights) == 34
    assert caught >= least


def comparisons(op: str, wrong_from: int, rows: tuple[int, ...] = (1, 16, 31, 32, 128, 512)) -> list[Comparison]:
    return [Comparison(f"{op} title", op, each, 0, 0.3 if each >= wrong_from else 1e-6, 2e-3) for each in rows]


def kernel(op: str) -> Kernel:
    return Kernel(f"{op} title", None, (f"/{op}/0", f"/{op}/1"), False, 64)  # type: ignore[arg-type]


def test_smaller_chunks_come_before_the_processor() -> None:
    kernels, right = [kernel("Norm"), kernel("GroupQueryAttention")], comparisons("Norm", 10_000)
    attention = ("/GroupQueryAttention/0", "/GroupQueryAttention/1")
    assert ways_out(WEBGPU, kernels, right) == [Setup(512), Setup(16)]
    found = right + comparisons("GroupQueryAttention", 32)
    placed = [Setup(512, attention, True), Setup(16, attention, True)]
    assert ways_out(WEBGPU, kernels, found) == [Setup(31), Setup(16), *placed]
    found = right + comparisons("GroupQueryAttention", 16)
    assert ways_out(WEBGPU, kernels, found) == placed
    nodes = ("/Norm/0", "/Norm/1")
    found = comparisons("Norm", 1) + comparisons("GroupQueryAttention", 32)
    assert ways_out(WEBGPU, kernels, found)[:2] == [Setup(31, nodes), Setup(16, nodes)], "what never works is placed"
    cuda = Provider("CUDAExecutionProvider", "CUDA", 512, WEBGPU.attach, memory=("gpu", 1))
    assert ways_out(cuda, kernels, found) == [], "CUDA cannot leave nodes to the processor"
    assert ways_out(cuda, kernels, right + comparisons("GroupQueryAttention", 128)) == [Setup(32), Setup(16)]


def test_wrong_kernels_are_described_in_one_line_each() -> None:
    found = [*comparisons("A", 32), *comparisons("B", 10_000), Comparison("C", "C", 1, 0, math.inf, 1e-3)]
    assert describe_wrong(found) == (
        "A title is wrong from 32 rows on (by 30 %)",
        "C is wrong from 1 row on (it fails)",
    )


def test_a_proof_happens_once(built_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    engine, manifest, options = pretended_gpu(), read_manifest(built_artifact), EngineOptions(threads=1)
    adapter, versions = engine.identify(__import__("onnxruntime"))
    with pytest.warns(EngineProofNotice, match=r"Pretended on Pretended GPU \(driver 1\.2\.3\) has not run"):
        first, new = prove(engine, built_artifact, manifest, options, adapter, versions)
    assert new
    monkeypatch.setattr("edgekit.runtime.proof.prove.new_verdict", lambda *arguments: pytest.fail("proven again"))
    assert prove(engine, built_artifact, manifest, options, adapter, versions) == (first, False)


def test_the_error_of_logits_ignores_a_constant() -> None:
    expected = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    assert logits_error(expected + 7, expected) < 1e-5
    assert mean_kl(expected + 7, expected) == pytest.approx(0, abs=1e-9)
    assert logits_error(expected * 1.1, expected) == pytest.approx(0.1, rel=1e-3)
    assert mean_kl(expected * 2, expected) > 0.05
    assert logits_error(np.full_like(expected, np.nan), expected) == mean_kl(expected * np.nan, expected) == math.inf


def test_a_proof_that_ended_its_process_twice_is_not_tried_again(
    built_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    engine, manifest, options = pretended_gpu(), read_manifest(built_artifact), EngineOptions(threads=1)
    marked: list[Path] = []

    def interrupted(*arguments: object) -> None:
        marked.extend((tmp_path / "proofs").glob("*.unfinished"))
        raise KeyboardInterrupt

    monkeypatch.setattr("edgekit.runtime.proof.prove.new_verdict", interrupted)
    with pytest.warns(EngineProofNotice), pytest.raises(KeyboardInterrupt):
        prove(engine, built_artifact, manifest, options, ADAPTER, "1")
    (marker,) = marked
    assert not marker.exists()
    marker.write_text("999999999 0")  # no process has this number
    with pytest.warns(EngineProofNotice), pytest.raises(KeyboardInterrupt):
        prove(engine, built_artifact, manifest, options, ADAPTER, "1")
    assert not marker.exists()
    marker.write_text("999999999 1")
    with pytest.warns(EngineProofNotice), pytest.raises(AcceleratorError, match="ended their process") as caught:
        prove(engine, built_artifact, manifest, options, ADAPTER, "1")
    assert f"remove {marker}" in caught.value.hint
    for told in (f"{os.getpid()} 1", "", "damaged"):
        marker.write_text(told)
        with pytest.warns(EngineProofNotice), pytest.raises(KeyboardInterrupt):
            prove(engine, built_artifact, manifest, options, ADAPTER, "1")


def test_where_memory_is_short_the_native_engine_is_the_reference(built_artifact: Path) -> None:
    manifest, options = read_manifest(built_artifact), EngineOptions(context=64, threads=1)
    size = (built_artifact / "model.onnx.data").stat().st_size
    for available, name, allowed in (
        (2 * size, "native", INT8_TOLERANCE),
        (3 * size, "ort", 1e-3),
        (None, "ort", 1e-3),
    ):
        engine, tolerance = _open_reference(built_artifact, manifest, options, lambda found=available: found)
        assert (engine.name, tolerance) == (name, allowed)
        engine.close()
