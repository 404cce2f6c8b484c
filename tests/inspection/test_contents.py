"""What is in an artifact: the parts cover the weight file, and their sizes are the exporter's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from shared_models import FLOAT, SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import ArtifactError, UnknownNameError
from edgekit.inspection.contents import EMBEDDING, HEAD, NORMS, contents_of, part_name, read_model


@pytest.mark.parametrize("formats", ["int4 block 32", "int8 head", FLOAT])
def test_the_parts_are_the_weight_file(models: SharedModels, formats: str) -> None:
    folder = models.artifact(formats=formats)
    contents = contents_of(folder, read_manifest(folder))
    parts = {part.name: part for part in contents.parts}
    assert sum(part.size_bytes for part in contents.parts) == (folder / "model.onnx.data").stat().st_size
    assert sum(part.token_bytes for part in contents.parts) == contents.token_bytes
    assert sum(part.time_share for part in contents.parts) + contents.fixed_share == pytest.approx(1)
    assert parts["attn.qkv_proj"].tensors == read_manifest(folder).model["num_layers"]
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    norms = [name for name in stored if name.endswith("norm.weight")]
    assert parts[NORMS].tensors == len(norms)
    assert parts[NORMS].weights == sum(stored[name].dims[0] for name in norms)


def test_a_table_that_is_also_the_head_is_stored_once(models: SharedModels) -> None:
    folder = models.artifact("qwen2", "int4 block 32", tie_word_embeddings=True)
    contents = contents_of(folder, read_manifest(folder))
    parts = {part.name: part for part in contents.parts}
    assert (parts[HEAD].size_bytes, parts[HEAD].token_bytes) == (0, parts[EMBEDDING].size_bytes)
    (only,) = contents.by_format()
    assert (only.bits, only.block_size) == (4, 32)
    assert only.tensors == 1 + sum(parts[name].tensors for name in parts if name.startswith(("attn.", "mlp.")))
    assert only.size_bytes == sum(part.size_bytes for part in contents.parts if part.bits == 4)


def test_sums_by_width_and_block(models: SharedModels) -> None:
    folder = models.artifact(formats="int8 head")
    contents = contents_of(folder, read_manifest(folder))
    sums = {(each.bits, each.block_size): each for each in contents.by_format()}
    assert sums.keys() == {(4, 64), (4, 32), (8, 64)}
    assert sums[8, 64].tensors == sums[4, 32].tensors == 1  # lm_head and embedding
    assert [each.size_bytes for each in contents.by_format()] == sorted(
        (each.size_bytes for each in contents.by_format()), reverse=True
    )


def test_the_time_is_planned_for_the_manifests_device(models: SharedModels) -> None:
    folder = models.artifact(formats="int4 block 32")
    manifest = read_manifest(folder)
    elsewhere = replace(manifest, plan={"device": "raspberry-pi-5-8gb", "engine": "native", "context": 100})
    contents = contents_of(folder, elsewhere)
    assert contents.time is not None
    assert 0 < contents.fixed_share < 1
    assert (contents.engine, contents.device, contents.context) == ("native", "raspberry-pi-5-8gb", 100)
    assert contents_of(folder, elsewhere, "ort").engine == "ort"
    builders_own = contents_of(folder, replace(manifest, plan={"device": "a-board-of-the-builder"}))
    assert (builders_own.time, builders_own.fixed_share) == (None, 0.0)
    other_mode = contents_of(folder, replace(elsewhere, plan={**elsewhere.plan, "power_mode": "eco"}))
    assert (other_mode.time, other_mode.device, other_mode.fixed_share) == (None, "raspberry-pi-5-8gb", 0.0)
    assert sum(part.time_share for part in other_mode.parts) == pytest.approx(1)
    assert contents.to_json()["planned"]["token_s"]["total_s"] == contents.time.total_s
    with pytest.raises(UnknownNameError, match="no engine 'nativ'"):
        contents_of(folder, manifest, "nativ")


def test_a_weight_file_of_another_size_is_refused(models: SharedModels, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(models.artifact(formats="int8"), folder)
    manifest = read_manifest(folder)
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=rf"has {data.stat().st_size} bytes; .* describe {data.stat().st_size + 1}"):
        read_model(folder, manifest)
    data.unlink()
    with pytest.raises(ArtifactError, match=r"cannot read .*model.onnx.data: No such file"):
        read_model(folder, manifest)
    (folder / "model.onnx").unlink()
    (folder / "onnx").mkdir()
    with pytest.raises(ArtifactError, match="is a folder for a browser"):
        read_model(folder, manifest)
    (folder / "onnx").rmdir()
    with pytest.raises(ArtifactError, match="the manifest does not describe the weights: 'linear'"):
        read_model(folder, replace(manifest, quantization={}))


@pytest.mark.parametrize(
    ("matrix", "part"),
    [("model.layers.13.attn.qkv_proj", "attn.qkv_proj"), ("model.embed_tokens", EMBEDDING), ("lm_head", HEAD)],
)
def test_names_of_parts(matrix: str, part: str) -> None:
    assert part_name(matrix) == part
