"""Finds the weights that one of Ollama's manifests names.

    models/manifests/registry.ollama.ai/library/NAME/TAG    JSON: layers with mediaType and digest
    models/blobs/sha256-DIGEST                              the layers; the model's is a GGUF file

Source: https://github.com/ollama/ollama, ``server/manifest.go``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import CorruptFileError
from ..json_file import read_json_object

_MODEL = "application/vnd.ollama.image.model"
_ADAPTER = "application/vnd.ollama.image.adapter"
_MAX_BYTES = 1024 * 1024
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def blob_of_manifest(path: Path, start: bytes) -> str:
    """What to give instead of a manifest: the path of the model's GGUF file.

    Args:
        path: A file that may be a manifest.
        start: Its first bytes.

    Returns:
        A hint; empty if the file is not a manifest.
    """
    if not start.lstrip().startswith(b"{") or path.stat().st_size > _MAX_BYTES:
        return ""
    try:
        layers = read_json_object(path).get("layers")
    except CorruptFileError:
        return ""
    if not isinstance(layers, list):
        return ""
    digests = {layer["mediaType"]: layer["digest"] for layer in layers if _is_layer(layer)}
    digest = digests.get(_MODEL)
    if digest is None:
        return ""
    adapter = "; the model's adapter, another layer of it, is not read" if _ADAPTER in digests else ""
    name = digest.replace(":", "-", 1)
    for folder in path.parents:
        blob = folder / "blobs" / name
        if blob.is_file():
            return f"give the model's GGUF file: {blob}{adapter}"
    return f"give the model's GGUF file: {name} in Ollama's folder blobs{adapter}"


def _is_layer(layer: Any) -> bool:
    if not isinstance(layer, dict) or not isinstance(layer.get("mediaType"), str):
        return False
    digest = layer.get("digest")
    return isinstance(digest, str) and _DIGEST.fullmatch(digest) is not None
