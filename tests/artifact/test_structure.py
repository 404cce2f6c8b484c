"""Contradictions between the parts of an artifact are found, also where every file has its digest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto
from tiny_artifact import rewrite_manifest

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.structure import contradictions
from edgekit.artifact.verify import verify
from edgekit.errors import VerificationError


@pytest.fixture
def artifact(built_artifact: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built_artifact, tmp_path / "artifact")


def stored(model: onnx.ModelProto) -> list[TensorProto]:
    return [each for each in model.graph.initializer if each.data_location == TensorProto.EXTERNAL]


def entry(tensor: TensorProto, key: str) -> Any:
    return next(each for each in tensor.external_data if each.key == key)


def move(model: onnx.ModelProto, offset: int) -> None:
    entry(stored(model)[-1], "offset").value = str(offset)


def metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    next(each for each in model.metadata_props if each.key == f"edgekit.{key}").value = value


@pytest.mark.parametrize("name", ["artifact", "built_artifact", "reasoning_artifact"])
def test_nothing_contradicts(request: pytest.FixtureRequest, name: str) -> None:
    folder = request.getfixturevalue(name)
    assert contradictions(folder, read_manifest(folder)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda model: move(model, 10**12), "ends at byte 1000000"),
        (lambda model: move(model, 64), "overlap"),
        (lambda model: move(model, 68), "begins at byte 68, which is not a multiple of 64"),
        (lambda model: stored(model)[0].dims.append(3), "needs"),
        (lambda model: setattr(entry(stored(model)[0], "location"), "value", "../other"), "not a file of the artifact"),
        (lambda model: setattr(entry(stored(model)[0], "location"), "value", "/etc/passwd"), "not a file of the"),
        (lambda model: setattr(stored(model)[0], "data_type", 99), "unknown type 99"),
        (lambda model: metadata(model, "num_layers", "3"), "its metadata has num_layers 3, the graph 2"),
        (lambda model: metadata(model, "context_length", "77"), "it has context_length 77, the manifest"),
        (lambda model: metadata(model, "hidden_size", "145"), "it has hidden_size 145, config.json 144"),
        (lambda model: metadata(model, "activation_type", "float16"), "it has activation_type float16, the manifest"),
    ],
)  # fmt: skip
def test_graphs(artifact: Path, change: Callable[[onnx.ModelProto], object], problem: str) -> None:
    model = onnx.load(artifact / "model.onnx", load_external_data=False)
    change(model)
    (artifact / "model.onnx").write_bytes(model.SerializeToString())
    rewrite_manifest(artifact)
    with pytest.raises(VerificationError) as caught:
        verify(artifact)
    assert "model.onnx: " in caught.value.message
    assert problem in caught.value.message


def test_a_graph_that_is_none(artifact: Path) -> None:
    (artifact / "model.onnx").write_bytes(b"\0\1\2")
    rewrite_manifest(artifact)
    with pytest.raises(VerificationError, match=r"model\.onnx is not a model in ONNX format: it "):
        verify(artifact)


@pytest.mark.parametrize("added", [True, False])
def test_a_token_without_a_row(artifact: Path, added: bool) -> None:
    content = json.loads((artifact / "tokenizer.json").read_text(encoding="utf-8"))
    rows = read_manifest(artifact).model["vocab_size"]
    if added:
        content["added_tokens"][-1]["id"] = rows
    else:
        content["model"]["vocab"]["one too many"] = rows
    (artifact / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    rewrite_manifest(artifact)
    with pytest.raises(VerificationError, match=f"has a token with the id {rows}; the model has rows 0 to {rows - 1}"):
        verify(artifact)


@pytest.mark.parametrize("content", ["{}", '{"model": []}', '{"model": {"vocab": {"a": "b"}}}', "[", '{"model": 5}'])
def test_a_file_that_is_no_tokenizer(artifact: Path, content: str) -> None:
    (artifact / "tokenizer.json").write_text(content, encoding="utf-8")
    rewrite_manifest(artifact)
    with pytest.raises(VerificationError, match=r"tokenizer\.json is not"):
        verify(artifact)


def test_special_tokens_of_the_manifest(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    rewrite_manifest(artifact, tokens={**manifest.tokens, "eos": [1, 10**6]})
    with pytest.raises(VerificationError, match="the eos token of the manifest has the id 1000000"):
        verify(artifact)
