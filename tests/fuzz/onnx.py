"""The graph of an artifact, as verify and inspect read it."""

import onnx
from fuzz_changes import binary_change as change
from fuzz_files import artifact

from edgekit.artifact.onnx_file import read_onnx

__all__ = ["change", "read", "seeds"]
ALLOWED = (ValueError,)


def seeds() -> list[bytes]:
    whole = (artifact("onnx") / "model.onnx").read_bytes()
    model = onnx.load_from_string(whole)
    del model.graph.node[:]
    return [model.SerializeToString()]


def read(data: bytes) -> None:
    read_onnx(data)
