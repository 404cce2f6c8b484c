"""The engine ``cuda``, without a GPU: when it is available, and its errors."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import AcceleratorError
from edgekit.runtime import cuda_engine
from edgekit.runtime.cuda_engine import ENGINE, has_cuda_library, has_gpu
from edgekit.runtime.engine import EngineOptions


@pytest.mark.parametrize("device", [True, False])
def test_a_gpu_is_there_if_cuda_can_allocate_on_it(monkeypatch: pytest.MonkeyPatch, device: bool) -> None:
    def allocate(shape: tuple[int, ...], dtype: type, kind: str, index: int, vendor: int) -> None:
        assert (kind, index, vendor) == ("gpu", 0, 0x10DE)
        if not device:
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")

    fake = SimpleNamespace(OrtValue=SimpleNamespace(ortvalue_from_shape_and_type=allocate))
    monkeypatch.setattr(cuda_engine, "load_onnxruntime", lambda: fake)
    assert has_gpu() is device


def test_the_library_is_looked_for_and_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(cuda_engine, "find_spec", lambda name: found)
    assert not has_cuda_library()
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").touch()
    assert has_cuda_library()
    monkeypatch.setattr(cuda_engine, "find_spec", lambda name: None)
    assert not has_cuda_library()


def test_it_runs_float16_only(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_engine, "has_cuda_library", lambda: True)
    manifest = read_manifest(artifact)
    assert not ENGINE.can_run(manifest), "float32"
    assert ENGINE.can_run(replace(manifest, activation_type="float16"))


def test_an_onnxruntime_without_cuda_is_an_error(artifact: Path) -> None:
    ort = sys.modules["onnxruntime"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        with pytest.raises(AcceleratorError, match="was not built for CUDA") as caught:
            ENGINE.open(artifact, read_manifest(artifact), EngineOptions(threads=1))
        assert "onnxruntime-gpu" in caught.value.hint
