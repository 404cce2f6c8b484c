"""Ollama's manifests name the blob that holds the model."""

import json

import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError

MODEL = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "ab" * 32}
TEMPLATE = {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "cd" * 32}
ADAPTER = {"mediaType": "application/vnd.ollama.image.adapter", "digest": "sha256:" + "ef" * 32}


@pytest.fixture
def manifest(tmp_path):
    """Write the manifest of a model: ``manifest(layers)``; its path."""
    path = tmp_path / "models/manifests/registry.ollama.ai/library/tiny/latest"
    path.parent.mkdir(parents=True)

    def write(layers):
        path.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
        return path

    return write


def test_the_blob_is_named(tmp_path, manifest, tiny_gguf):
    path = manifest([TEMPLATE, MODEL])
    with pytest.raises(CheckpointError, match="is Ollama's manifest of a model, not its weights") as caught:
        open_checkpoint(path)
    assert caught.value.hint == f"give the model's GGUF file: sha256-{'ab' * 32} in Ollama's folder blobs"
    blob = tmp_path / "models/blobs" / f"sha256-{'ab' * 32}"
    blob.parent.mkdir()
    tiny_gguf.rename(blob)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.hint == f"give the model's GGUF file: {blob}"
    with open_checkpoint(blob) as checkpoint:
        assert checkpoint.format == "gguf"


def test_an_adapter_beside_the_model_is_named(manifest):
    with pytest.raises(CheckpointError, match="Ollama's manifest") as caught:
        open_checkpoint(manifest([MODEL, ADAPTER]))
    assert "adapter" in caught.value.hint


@pytest.mark.parametrize(
    "layers",
    [
        [TEMPLATE],
        None,
        ["x"],
        [{"mediaType": 1}],
        *([{**MODEL, "digest": d}] for d in ("1" * 300, "sha256:../../a", "a\n")),
    ],
)
def test_other_json_is_not_a_manifest(manifest, layers):
    with pytest.raises(CheckpointError, match="is not a GGUF file"):
        open_checkpoint(manifest(layers))
