"""Web folders: the names that transformers.js asks for, links, pieces, and the same logits as the artifact's."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from shared_models import SharedModels
from tiny_checkpoint import write_checkpoint

import edgekit
from edgekit.artifact.manifest import Manifest, read_manifest
from edgekit.errors import ArtifactError, BuildError, VerificationError
from edgekit.export.web import write_web_folder

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def logits(model: Path) -> np.ndarray:
    """Run a graph on a fixed prompt, with the inputs that transformers.js gives."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    feed: dict[str, Any] = {"input_ids": np.array([IDS]), "attention_mask": np.ones((1, len(IDS)), np.int64)}
    for value in session.get_inputs():
        if value.name.startswith("past_key_values"):
            dtype = np.float16 if "16" in value.type else np.float32
            feed[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), dtype)
    found: np.ndarray = session.run(["logits"], feed)[0]
    return found


@pytest.fixture(scope="module")
def artifact(models: SharedModels) -> Path:
    return models.artifact("llama")


@pytest.fixture
def web(artifact: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    folder.mkdir()
    assert write_web_folder(artifact, folder, read_manifest(artifact)) == ()
    return folder


def test_the_names_are_those_of_transformers_js(web: Path) -> None:
    names = {p.relative_to(web).as_posix() for p in web.rglob("*") if p.is_file()}
    assert {"onnx/model_q4.onnx", "onnx/model_q4.onnx_data", "tokenizer.json", "config.json", "edgekit.json"} <= names
    assert not names & {"model.onnx", "model.onnx.data", "genai_config.json", "edgekit_text.bin"}
    assert json.loads((web / "config.json").read_text())["transformers.js_config"] == {
        "device": "webgpu", "dtype": "q4", "kv_cache_dtype": {"q4": "float32"},
        "use_external_data_format": {"model_q4.onnx": 1},
    }  # fmt: skip


def test_the_weights_are_a_link_and_the_logits_are_the_same(artifact: Path, web: Path) -> None:
    assert (web / "onnx" / "model_q4.onnx_data").samefile(artifact / "model.onnx.data")
    np.testing.assert_array_equal(logits(web / "onnx" / "model_q4.onnx"), logits(artifact / "model.onnx"))


def test_the_manifest_covers_every_file(artifact: Path, web: Path) -> None:
    found = edgekit.verify(web)
    own = read_manifest(artifact)
    assert found.files["onnx/model_q4.onnx_data"] == own.files["model.onnx.data"]
    assert replace(found, files=own.files, digest=own.digest) == own
    (web / "onnx" / "model_q4.onnx").write_bytes(b"damaged")
    with pytest.raises(VerificationError, match=r"onnx/model_q4\.onnx has 7 bytes"):
        edgekit.verify(web)


def test_pieces(artifact: Path, tmp_path: Path) -> None:
    """No tensor is cut, each piece starts on a page of the artifact's file, and the graph finds everything."""
    limit = 100_000
    folder = tmp_path / "web"
    folder.mkdir()
    (note,) = write_web_folder(artifact, folder, read_manifest(artifact), piece_bytes=limit)
    assert "own copy of the weights" in note
    count = json.loads((folder / "config.json").read_text())["transformers.js_config"]["use_external_data_format"]
    names = ["model_q4.onnx_data", *(f"model_q4.onnx_data_{i}" for i in range(1, count["model_q4.onnx"]))]
    assert len(names) > 2
    assert sorted(p.name for p in (folder / "onnx").iterdir()) == sorted(["model_q4.onnx", *names])
    data = (artifact / "model.onnx.data").read_bytes()
    for name in names:
        piece = (folder / "onnx" / name).read_bytes()
        assert len(piece) <= limit
        assert data.index(piece) % 4096 == 0
    np.testing.assert_array_equal(logits(folder / "onnx" / "model_q4.onnx"), logits(artifact / "model.onnx"))
    assert note in edgekit.verify(folder).notes


def test_a_file_system_without_links_gets_a_copy_and_a_note(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def no_ranges(*arguments: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "copy_file_range", no_ranges, raising=False)
    (note,) = write_web_folder(artifact, tmp_path, read_manifest(artifact))
    assert "cannot make a hard link (Operation not permitted)" in note
    assert (tmp_path / "onnx" / "model_q4.onnx_data").read_bytes() == (artifact / "model.onnx.data").read_bytes()
    assert edgekit.verify(tmp_path).notes[-1] == note


def test_a_tensor_that_no_piece_holds(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"the tensor .* has .* and a browser reads files of up to"):
        write_web_folder(artifact, tmp_path, read_manifest(artifact), piece_bytes=1000)


def test_data_that_ends_early(artifact: Path, tmp_path: Path) -> None:
    damaged, folder = tmp_path / "damaged", tmp_path / "web"
    damaged.mkdir()
    folder.mkdir()
    for name in ("model.onnx", "config.json"):
        (damaged / name).write_bytes((artifact / name).read_bytes())
    (damaged / "model.onnx.data").write_bytes((artifact / "model.onnx.data").read_bytes()[:-1000])
    with pytest.raises(BuildError, match="the weights end at"):
        write_web_folder(damaged, folder, read_manifest(artifact), piece_bytes=100_000)


def test_a_build_writes_it_beside_the_artifact(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny", "qwen2")
    for again in (False, True):
        built = edgekit.build(
            None, "jetson", checkpoint=source, out=tmp_path / "out", emit="web", gate=False, force=again
        )
        assert built.emitted == tmp_path / "out-web"
        manifest: Manifest = edgekit.verify(built.emitted)
        assert manifest.golden == built.manifest.golden
        graph = onnx.load(str(built.emitted / "onnx" / "model_q4f16.onnx"), load_external_data=False)
        assert {i.name for i in graph.graph.input} >= {"input_ids", "attention_mask", "past_key_values.0.key"}
    assert not built.plan.notes


def test_it_cannot_be_run_from_python(web: Path) -> None:
    with pytest.raises(ArtifactError, match="is a folder for a browser"):
        edgekit.load(web)
