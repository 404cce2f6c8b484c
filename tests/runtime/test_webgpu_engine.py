"""The engine ``webgpu``, with a pretended plugin: what it registers, and its errors."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import AcceleratorError
from edgekit.runtime import webgpu_engine
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.webgpu_engine import ENGINE, PLUGIN, WEBGPU, find_device


class FakeRuntime:
    """onnxruntime, as far as plugins are concerned."""

    __version__ = "1.24.4"

    def __init__(self, devices: int, error: Exception | None = None) -> None:
        self.registered: list[str] = []
        self._after = [SimpleNamespace(ep_name=WEBGPU)] * devices
        self._error = error

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


def test_it_needs_the_plugin_and_auto_leaves_it_alone(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(artifact)
    assert ENGINE.preference(manifest) < 0
    monkeypatch.setattr(webgpu_engine, "find_spec", lambda name: None if name == PLUGIN else object())
    assert not ENGINE.can_run(manifest)
    monkeypatch.setattr(webgpu_engine, "find_spec", lambda name: object())
    assert ENGINE.can_run(manifest)
