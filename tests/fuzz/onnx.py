"""The graph of an artifact, as verify and inspect read it, and what in it contradicts the rest of the artifact."""

import shutil
from functools import cache
from pathlib import Path

import onnx
from fuzz_changes import binary_change as change
from fuzz_files import artifact, scratch

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.onnx_file import read_onnx
from edgekit.artifact.structure import contradictions

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    whole = (artifact("onnx") / "model.onnx").read_bytes()
    model = onnx.load_from_string(whole)
    del model.graph.node[:]
    return [model.SerializeToString(), whole]


@cache
def _folder() -> Path:
    return Path(shutil.copytree(artifact("onnx"), scratch() / "onnx-changed"))


def read(data: bytes) -> None:
    try:
        read_onnx(data)
    except ValueError:
        return
    (_folder() / "model.onnx").write_bytes(data)
    contradictions(_folder(), read_manifest(_folder()))
