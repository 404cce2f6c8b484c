"""The reader of ONNX files gives what the package onnx gives, and refuses everything else without ado."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from edgekit.artifact.onnx_file import OnnxFile, read_onnx


def expected(path: Path) -> OnnxFile:
    model = onnx.load(path, load_external_data=False)
    stored = []
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            stored.append(
                (
                    tensor.name, tensor.data_type, tuple(tensor.dims), entries["location"],
                    int(entries.get("offset", 0)), int(entries["length"]),
                )
            )  # fmt: skip
    shapes = {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (*model.graph.input, *model.graph.output)
    }
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return model.producer_name, metadata, stored, shapes  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["artifact", "built_artifact"])
def test_it_gives_what_onnx_gives(request: pytest.FixtureRequest, name: str) -> None:
    path = request.getfixturevalue(name) / "model.onnx"
    found = read_onnx(path.read_bytes())
    stored = [(t.name, t.data_type, t.dims, t.location, t.offset, t.length) for t in found.stored]
    assert (found.producer, found.metadata, stored, found.shapes) == expected(path)
    assert stored


def test_damaged_files_are_errors_or_models(built_artifact: Path) -> None:
    content = (built_artifact / "model.onnx").read_bytes()
    rng = random.Random(1)  # noqa: S311
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            read_onnx(bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])]))
        except ValueError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("content", [b"", b"\x08", b"\x08" + b"\xff" * 20, b"\x3a\x05a", b"\x0b", b"{}", b"\x38\x01"])
def test_files_that_are_not_models(content: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        read_onnx(content)
