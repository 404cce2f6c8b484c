"""Imports onnxruntime with its telemetry off. Nothing else in edgekit imports it.

The official builds of onnxruntime from 1.32 on queue events for Microsoft (Privacy.md in that package): they store a
device id and a database under the user's cache folder, and send them later.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

# Each library reads its variable once, when it is loaded. Processes that this one starts inherit them. huggingface_hub
# would tell the hub which other packages and programs it runs with, in the user agent of its requests.
NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime.

    If the application imported it before, only the events from now on can be stopped.

    Raises:
        ImportError: It is not installed, or cannot be loaded.
    """
    os.environ.update(NO_TELEMETRY)
    onnxruntime = import_module("onnxruntime")
    if hasattr(onnxruntime, "disable_telemetry_events"):  # from 1.8 on
        onnxruntime.disable_telemetry_events()
    return onnxruntime
