"""The engine ``webgpu``: with a pretended plugin its errors, and on a GPU or SwiftShader (-m webgpu) its results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pretended_gpu import with_fault
from shared_models import SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import AcceleratorError, EngineProofNotice
from edgekit.runtime import webgpu_engine
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.ort_engine import OrtEngine
from edgekit.runtime.proof.adapter import vulkan_adapter
from edgekit.runtime.proof.graph import FLOAT, read_graph
from edgekit.runtime.proof.prove import LOGITS_TOLERANCE, logits_error
from edgekit.runtime.provider import Setup
from edgekit.runtime.replay import LOGIT_TOLERANCE, check_logits, check_tokens, replay
from edgekit.runtime.webgpu_engine import ENGINE, PLUGIN, WEBGPU, WebgpuEngine, find_device


class FakeRuntime:
    """onnxruntime, as far as plugins are concerned."""

    __version__ = "1.24.4"

    def __init__(self, devices: int, error: Exception | None = None) -> None:
        self.registered: list[str] = []
        self._after = [SimpleNamespace(ep_name=WEBGPU)] * devices
        self._error = error

    def set_default_logger_severity(self, severity: int) -> None:
        pass

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if self._error is not None:
            raise self._error
        self.registered.append(path)

    def get_ep_devices(self) -> list[Any]:
        return [SimpleNamespace(ep_name="CPUExecutionProvider"), *(self._after if self.registered else [])]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PLUGIN, SimpleNamespace(get_library_path=lambda: "plugin.so"))


def test_the_plugin_is_registered_once(plugin: None) -> None:
    runtime = FakeRuntime(devices=1)
    assert find_device(runtime).ep_name == WEBGPU
    assert find_device(runtime).ep_name == WEBGPU
    assert runtime.registered == ["plugin.so"]


def test_a_missing_plugin_is_an_error_that_says_how_to_install_it(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PLUGIN, None)
    with pytest.raises(AcceleratorError, match="plugin cannot be imported") as caught:
        ENGINE.open(artifact, read_manifest(artifact), EngineOptions(threads=1))
    assert caught.value.hint == 'pip install "edgekit-llm[webgpu]"'


def test_a_plugin_of_another_onnxruntime_is_an_error_with_both_versions(plugin: None) -> None:
    refusal = RuntimeError('ORT runtime version "1.23.2" is below the minimum required version "1.24.4".')
    with pytest.raises(AcceleratorError, match=r"onnxruntime 1\.24\.4: ORT runtime version .1\.23\.2") as caught:
        find_device(FakeRuntime(1, refusal))
    assert "onnxruntime>=1.24.4" in caught.value.hint
    with pytest.raises(AcceleratorError, match=r"1\.20\.0: it does not support plugins"):
        find_device(SimpleNamespace(__version__="1.20.0"))


def test_no_device_is_an_error_that_names_the_vulkan_loader(plugin: None) -> None:
    with pytest.raises(AcceleratorError, match="found no device") as caught:
        find_device(FakeRuntime(devices=0))
    assert "libvulkan1" in caught.value.hint


def test_auto_takes_it_only_with_the_plugin_and_for_what_was_planned_for_a_gpu(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(artifact)
    assert ENGINE.preference(manifest) < 0
    for engine, wanted in (("webgpu", True), ("cuda", True), ("native", False)):
        assert (ENGINE.preference(replace(manifest, plan={"engine": engine})) > 1) is wanted
    monkeypatch.setattr(webgpu_engine, "find_spec", lambda name: None if name == PLUGIN else object())
    assert not ENGINE.can_run(manifest)
    monkeypatch.setattr(webgpu_engine, "find_spec", lambda name: object())
    assert ENGINE.can_run(manifest)


IDS = np.random.default_rng(0).integers(4, 250, 100)
OPTIONS = EngineOptions(context=256, threads=2)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.webgpu
@pytest.mark.usefixtures("own_cache")
def test_it_is_proven_and_gives_the_processors_tokens(models: SharedModels) -> None:
    folder = models.artifact(formats="int4 block 32")
    manifest = read_manifest(folder)
    with pytest.warns(EngineProofNotice):
        engine = ENGINE.open(folder, manifest, OPTIONS)
    verdict = engine.verdict
    if "SwiftShader" in verdict.subject.adapter:
        # Its attention takes subgroups of more than 4 for granted, and the plugin's lookup no packed zero points.
        assert {text.split()[0] for text in verdict.wrong} == {"GatherBlockQuantized", "GroupQueryAttention"}
        assert verdict.setup == Setup(31, ("/model/embed_tokens/GatherBlockQuantized",))
    assert verdict.logits_error is not None
    assert verdict.logits_error < 1e-4
    processor = OrtEngine.open(folder, manifest, OPTIONS)
    np.testing.assert_allclose(logits := engine.evaluate(IDS), processor.evaluate(IDS), atol=LOGIT_TOLERANCE)
    engine.rewind(40)
    engine.evaluate(IDS[40:70])
    np.testing.assert_allclose(engine.evaluate(IDS[70:]), logits, atol=1e-3)
    golden = manifest.golden
    assert golden is not None
    engine.rewind(0)
    rows = replay(engine, golden)
    assert check_logits(rows[0], golden["top_logits"]).passed
    assert check_tokens(rows, golden["continuation_ids"]).passed
    engine.close()
    processor.close()


@pytest.mark.webgpu
def test_wrong_weights_on_the_gpu_show_in_the_logits(built_artifact: Path, tmp_path: Path) -> None:
    manifest, errors = read_manifest(built_artifact), []
    attach = ENGINE.provider.attach

    def faulty(ort: Any, options: Any, cpu_nodes: Sequence[str]) -> Sequence[str]:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))
        return attach(ort, options, cpu_nodes)

    class Faulty(WebgpuEngine):
        provider = replace(ENGINE.provider, attach=faulty)

    right = ENGINE.open_with(built_artifact, manifest, OPTIONS, Setup(16))
    expected = right.evaluate(IDS[:20])
    right.close()
    for part in ("layers.1.attn.o_proj.scales", "layers.1.mlp.gate_up_proj.codes", "final_norm.weight"):
        with_fault(built_artifact, f"model.{part}", tmp_path)
        wrong = Faulty.open_with(built_artifact, manifest, OPTIONS, Setup(16))
        errors.append(logits_error(wrong.evaluate(IDS[:20]), expected))
        wrong.close()
    assert min(errors) > LOGITS_TOLERANCE[FLOAT]


@pytest.mark.webgpu
def test_nodes_can_be_left_to_the_processor(built_artifact: Path) -> None:
    graph = read_graph((built_artifact / "model.onnx").read_bytes())
    attention = tuple(node.name for node in graph.nodes if node.op == "GroupQueryAttention")
    manifest = read_manifest(built_artifact)
    engine = ENGINE.open_with(built_artifact, manifest, OPTIONS, Setup(512, attention, cache_on_processor=True))
    processor = OrtEngine.open(built_artifact, manifest, OPTIONS)
    # SwiftShader's own attention is wrong by a third with so many rows at once.
    assert logits_error(engine.evaluate(IDS), processor.evaluate(IDS)) < 0.05  # the processor rounds to int8
    engine.close()
    processor.close()


@pytest.mark.webgpu
def test_an_adapter_without_float16_refuses_a_float16_artifact(models: SharedModels) -> None:
    folder = models.artifact(device="jetson")
    if vulkan_adapter().float16 is False:
        with pytest.raises(AcceleratorError, match=r"computes in float16, for which .* has no shaders"):
            ENGINE.open(folder, read_manifest(folder), OPTIONS)
    else:
        ENGINE.open(folder, read_manifest(folder), OPTIONS).close()
