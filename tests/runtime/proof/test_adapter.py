"""Which GPU this machine has."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest

from edgekit.errors import AcceleratorError
from edgekit.runtime.proof import adapter
from edgekit.runtime.proof.adapter import Adapter, cuda_adapter, vulkan_adapter

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="names Linux's libraries")


@LINUX
def test_a_missing_vulkan_loader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(adapter._VULKAN, "linux", "libvulkan-that-is-not-there.so.1")
    with pytest.raises(AcceleratorError, match=r"needs the Vulkan loader, libvulkan-that-is-not-there") as caught:
        vulkan_adapter()
    assert "libvulkan1" in caught.value.hint


def test_a_vulkan_without_devices_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(adapter._VULKAN, sys.platform, "any")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(adapter, "_physical_devices", lambda vulkan: [])
    with pytest.raises(AcceleratorError, match="finds no GPU"):
        vulkan_adapter()
    found = [(4, Adapter("SwiftShader", "5.0.0", False)), (0, Adapter("NVIDIA Orin", "540.4.0", True))]
    monkeypatch.setattr(adapter, "_physical_devices", lambda vulkan: found)
    assert str(vulkan_adapter()) == "NVIDIA Orin (driver 540.4.0)"


class FakeCuda:
    """CUDA's driver with one GPU, or without."""

    def __init__(self, status: int, attribute_status: int = 0) -> None:
        self._status, self._attribute_status = status, attribute_status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._status

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: int) -> int:  # noqa: N802
        name.value = b"NVIDIA H200"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:  # noqa: N802
        value._obj.value = attribute == 18
        return self._attribute_status


def test_cuda_names_its_gpu_and_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeCuda(0))
    assert str(cuda_adapter()) == "NVIDIA H200 (driver CUDA 12.6)"
    assert cuda_adapter().shares_memory is True
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeCuda(0, attribute_status=1))
    assert cuda_adapter().shares_memory is None
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeCuda(100))
    with pytest.raises(AcceleratorError, match=r"finds no GPU on this machine \(status 100\)"):
        cuda_adapter()


def test_a_missing_cuda_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(AcceleratorError, match="CUDA's driver is missing: "):
        cuda_adapter()
