"""Where onnxruntime runs each node: in real sessions on the processor, and in profiles of an accelerator's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from shared_models import FLOAT, SharedModels

from edgekit.artifact.manifest import Manifest, read_manifest
from edgekit.errors import EngineError
from edgekit.inspection import session_profile
from edgekit.inspection.contents import read_model
from edgekit.inspection.placement import COPY, FAST, HOST, SLOW, placement_of
from edgekit.inspection.session_profile import places_of, read_profile
from edgekit.runtime.accelerated import AcceleratedEngine
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.ort_engine import OrtEngine
from edgekit.runtime.provider import Setup
from edgekit.runtime.webgpu_engine import WEBGPU, WebgpuEngine


def event(
    name: str, operator: str, provider: str, outputs: str, *inputs: tuple[str, int], **more: Any
) -> dict[str, Any]:
    """A node's event of a profile."""
    about = {
        "op_name": operator,
        "provider": provider,
        "node_index": more.get("index", name),
        "input_type_shape": [{kind: [2] * rank} for kind, rank in inputs],
        "output_type_shape": [{outputs: [1, 4]}],
        "output_size": "16",
        "parameter_size": more.get("constants", "0"),
    }
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": more.get("microseconds", 5), "args": about}


@pytest.mark.parametrize("formats", ["int4 block 128", "int8 head", "int8", FLOAT])
def test_float32_runs_with_fast_kernels(models: SharedModels, formats: str) -> None:
    folder = models.artifact(formats=formats)
    placement = placement_of(folder, read_manifest(folder), "ort")
    assert placement.warnings() == ()
    assert {place.state for place in placement.places} == {FAST}
    products = [place for place in placement.places if place.operator in ("MatMulNBits", "FusedMatMul")]
    assert [place.part for place in products] == [
        "attn.qkv_proj", "attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj", "lm_head",
    ]  # fmt: skip
    assert [place.nodes for place in products] == [2, 2, 2, 2, 1]
    assert sum(place.time_share or 0 for place in placement.places) == pytest.approx(1)
    model = read_model(folder, read_manifest(folder))
    assert sum(place.weight_bytes for place in products) == sum(
        matrix.size_bytes for matrix in (*model.layout.inner_matrices(), model.layout.lm_head)
    )


def test_eight_bits_in_float16_are_a_slow_fallback(models: SharedModels) -> None:
    """The processor's kernels for float16 activations take 4 bits only."""
    folder = models.artifact(formats="int8 head", device="jetson")
    placement = placement_of(folder, read_manifest(folder), "ort")
    assert [place.part for place in placement.places if place.state == SLOW] == ["lm_head"]
    (warning,) = placement.warnings()
    assert "no kernel for int8 block 64 asymmetric" in warning


def test_a_graph_that_edgekit_did_not_export(artifact: Path) -> None:
    placement = placement_of(artifact, read_manifest(artifact), "ort")
    assert placement.warnings() == ()
    assert not any(place.part for place in placement.places)
    assert any(place.operator == "GroupQueryAttention" for place in placement.places)


def test_an_accelerators_session(models: SharedModels) -> None:
    manifest = read_manifest(models.artifact(formats="int8"))
    model = read_model(models.artifact(formats="int8"), manifest)
    cpu = "CPUExecutionProvider"
    nodes = read_profile(
        [
            event("/model/attn_mask/ReduceSum", "ReduceSum", cpu, "int64", ("int64", 2)),
            event("Memcpy", "MemcpyFromHost", WEBGPU, "int32", ("int32", 1)),
            event(
                "/model/layers.0/attn/o_proj/MatMulNBits", "MatMulNBits", WEBGPU, "float", ("float", 3), ("uint8", 3)
            ),
            event(
                "/model/layers.1/attn/o_proj/MatMulNBits", "MatMulNBits", WEBGPU, "float", ("float", 3), ("uint8", 3)
            ),
            event("/model/layers.0/mlp/act/Sigmoid", "Sigmoid", cpu, "float", ("float", 3)),
            event("/model/layers.0/mlp/act/Sigmoid", "Sigmoid", cpu, "float", ("float", 3)),  # of the next token
            {"cat": "Session", "name": "model_run", "dur": 3},
        ]
    )
    places = places_of(nodes, WebgpuEngine.provider, model)
    found = {(place.part or place.operator): (place.state, place.nodes, place.copied_bytes) for place in places}
    assert found == {
        "attn.o_proj": (FAST, 2, 0),
        "ReduceSum": (HOST, 1, 0),
        "MemcpyFromHost": (COPY, 1, 16),
        "Sigmoid": (SLOW, 1, 0),
    }
    assert all(place.time_share is None for place in places)  # times on the host are not the device's
    assert next(place.reason for place in places if place.state == SLOW).startswith(
        "the processor computes it, because WebGPU has no"
    )


def test_a_cast_of_weights_is_slow_and_one_of_activations_is_not() -> None:
    cpu = "CPUExecutionProvider"
    casts = [
        event("InsertedPrecisionFreeCast_a", "Cast", cpu, "float", ("float16", 3), microseconds=30),
        event("InsertedPrecisionFreeCast_b", "Cast", cpu, "float", ("float16", 2), constants="4096", microseconds=70),
    ]
    fast, slow = places_of(read_profile(casts), OrtEngine.provider, None)
    assert (fast.state, slow.state) == (FAST, SLOW)
    assert (fast.time_share, slow.time_share) == (pytest.approx(0.3), pytest.approx(0.7))


def test_the_shortest_time_of_a_node_counts() -> None:
    times = [event("a", "Mul", "CPUExecutionProvider", "float", microseconds=each) for each in (90, 20, 30)]
    (node,) = read_profile(times)
    assert node.seconds == pytest.approx(20e-6)


def test_a_profile_in_another_form_is_an_error(models: SharedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models.artifact(formats="int8")

    def run(found: object, folder: Path, facts: object, profile: Path) -> str:
        profile.with_suffix(".json").write_text('[{"cat": "Node", "name": "a", "args": {"provider": "CPU"}}]')
        return "a kernel"

    monkeypatch.setattr(session_profile, "_run", run)
    with pytest.raises(EngineError, match=r"cannot read onnxruntime's profile: KeyError\('op_name'\)"):
        placement_of(folder, read_manifest(folder), "ort")


def test_the_last_profile_counts(models: SharedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine on a GPU opens sessions of single operators before, to prove its results."""
    folder = models.artifact(formats="int8")

    def run(found: object, folder: Path, facts: object, profile: Path) -> str:
        for i, name in enumerate(("Proof", "Softmax")):
            path = profile.with_name(f"{profile.name}_{9 - i}.json")
            path.write_text(json.dumps([event(name, name, "CPUExecutionProvider", "float")]))
            os.utime(path, ns=(i, i))
        return "a kernel"

    monkeypatch.setattr(session_profile, "_run", run)
    assert [place.operator for place in placement_of(folder, read_manifest(folder), "ort").places] == ["Softmax"]
    monkeypatch.setattr(session_profile, "_run", lambda *arguments: "a kernel")
    with pytest.raises(EngineError, match="onnxruntime wrote no profile"):
        placement_of(folder, read_manifest(folder), "ort")


def open_without_proof(monkeypatch: pytest.MonkeyPatch, setup: Setup) -> None:
    """Let the engines on a GPU run an artifact in this way. A proof takes most of a minute on SwiftShader."""

    def open_so(engine: type[WebgpuEngine], folder: Path, manifest: Manifest, options: EngineOptions) -> WebgpuEngine:
        return engine.open_with(folder, manifest, options, setup)

    monkeypatch.setattr(AcceleratedEngine, "open", classmethod(open_so))


@pytest.mark.webgpu
def test_webgpu_runs_all_but_the_lengths(models: SharedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    open_without_proof(monkeypatch, Setup(16))
    folder = models.artifact(formats="int8 head")
    manifest = read_manifest(folder)
    placement = placement_of(folder, manifest, "webgpu")
    assert placement.warnings() == ()
    states = {place.part or place.operator: place.state for place in placement.places}
    for part in ("embedding", "attn.qkv_proj", "attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj", "lm_head"):
        assert states[part] == FAST
    assert states["GroupQueryAttention"] == FAST
    assert {name for name, state in states.items() if state == HOST} == {"ReduceSum", "Sub", "Cast", "Shape", "Gather"}
    copied = sum(place.copied_bytes for place in placement.places)
    assert copied == 4 * manifest.model["vocab_size"] + 8 + 4, "a row of logits, an id and a length"


@pytest.mark.webgpu
def test_nodes_that_are_left_to_the_processor_are_slow(models: SharedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models.artifact(formats="int8 head")
    attention = tuple(f"/model/layers.{i}/attn/GroupQueryAttention" for i in range(2))
    open_without_proof(monkeypatch, Setup(512, attention, cache_on_processor=True))
    placement = placement_of(folder, read_manifest(folder), "webgpu")
    (slow,) = (place for place in placement.places if place.state == SLOW)
    assert (slow.operator, slow.nodes, slow.runs_on) == ("GroupQueryAttention", 2, "CPU")
    copies = {place.operator: place.nodes for place in placement.places if place.state == COPY}
    assert copies["MemcpyToHost"] == copies["MemcpyFromHost"] == 2
