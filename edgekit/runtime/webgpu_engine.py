"""The engine ``webgpu``: onnxruntime's WebGPU plugin, which reaches any GPU through Vulkan, Metal or Direct3D 12.

The plugin is a package of its own, ``onnxruntime-ep-webgpu``: ``pip install "edgekit-llm[webgpu]"``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..artifact.manifest import RuntimeFacts
from ..errors import AcceleratorError
from .accelerated import AcceleratedEngine
from .proof.adapter import Adapter, vulkan_adapter
from .provider import Provider, one_line, onnxruntime_errors

PLUGIN = "onnxruntime_ep_webgpu"
WEBGPU = "WebGpuExecutionProvider"
# The first onnxruntime that the plugin's versions 0.1 to 0.4 accept; they need Python 3.11.
OLDEST_ONNXRUNTIME = "1.24.4"
PREFILL_CHUNK = 512
# onnxruntime looks for GPUs on the PCI bus, where a Jetson's is not, and offers the plugin only beside one. With this
# setting the plugin is offered on every machine and looks for a GPU itself, through Vulkan.
_OFFER_ALWAYS = {"ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1"}
_INSTALL = 'pip install "edgekit-llm[webgpu]"'


def _attach(ort: Any, options: Any, cpu_nodes: Sequence[str]) -> Sequence[str]:
    placed = {"forceCpuNodeNames": "\n".join(cpu_nodes)} if cpu_nodes else {}
    options.add_provider_for_devices([find_device(ort)], placed)
    return ()


def find_device(ort: Any) -> Any:
    """The plugin's ``OrtEpDevice``; registers the plugin with onnxruntime first.

    Raises:
        AcceleratorError: The plugin is not installed, does not fit this onnxruntime, or finds no device.
    """
    try:
        plugin = import_module(PLUGIN)
    except ImportError as error:
        raise AcceleratorError(f"the WebGPU plugin cannot be imported: {one_line(error)}", hint=_INSTALL) from None
    if not hasattr(ort, "register_execution_provider_library"):
        raise _too_old(ort, "it does not support plugins")
    found = _devices(ort)
    if not found:
        os.environ.update(_OFFER_ALWAYS)
        ort.set_default_logger_severity(3)  # the setting is worth a warning to it
        try:
            ort.register_execution_provider_library(PLUGIN, plugin.get_library_path())
        except onnxruntime_errors() as error:
            raise _too_old(ort, one_line(error)) from error
        found = _devices(ort)
    if not found:
        raise AcceleratorError(
            "the WebGPU plugin found no device",
            hint="install the GPU's driver, and on Linux the Vulkan loader: apt-get install libvulkan1",
        )
    return found[0]


def _devices(ort: Any) -> list[Any]:
    return [device for device in ort.get_ep_devices() if device.ep_name == WEBGPU]


def _too_old(ort: Any, reason: str) -> AcceleratorError:
    return AcceleratorError(
        f"the WebGPU plugin does not work with onnxruntime {ort.__version__}: {reason}",
        hint=f'pip install --upgrade "onnxruntime>={OLDEST_ONNXRUNTIME}" onnxruntime-ep-webgpu',
    )


class WebgpuEngine(AcceleratedEngine):
    """onnxruntime's WebGPU kernels as an :class:`~edgekit.runtime.engine.Engine`, which describes the members."""

    name = "webgpu"
    provider = Provider(
        WEBGPU, "WebGPU", PREFILL_CHUNK, _attach, memory=("gpu", 0), places_nodes=True, float_products=True
    )

    @staticmethod
    def identify(ort: Any) -> tuple[Adapter, str]:
        """The GPU that the plugin uses, and the versions of onnxruntime and the plugin."""
        device = find_device(ort)
        plugin = dict(device.ep_metadata).get("version", "of unknown version")
        return vulkan_adapter(), f"onnxruntime {ort.__version__}, plugin {plugin}"

    @staticmethod
    def can_run(manifest: RuntimeFacts) -> bool:
        """Whether the plugin is installed; nothing is loaded."""
        return find_spec(PLUGIN) is not None and find_spec("onnxruntime") is not None

    @staticmethod
    def preference(manifest: RuntimeFacts) -> int:
        """2 if the artifact was planned for a GPU, after CUDA; otherwise -1.

        Its proof follows when it is opened.
        """
        return 2 if manifest.plan.get("engine") in ("cuda", "webgpu") else -1


ENGINE = WebgpuEngine
