"""Verification: every changed, missing or extra file is found and named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_artifact import write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.verify import verify
from edgekit.errors import ArtifactError, VerificationError


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_tiny_artifact(tmp_path / "tiny")


def flip_a_byte(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_an_undamaged_artifact_passes_and_every_byte_is_read(artifact: Path) -> None:
    seen: list[tuple[float, float]] = []
    manifest = verify(artifact, lambda phase, done, total: seen.append((done, total)))
    assert manifest == read_manifest(artifact)
    total = sum(path.stat().st_size for path in artifact.iterdir() if path.name != "edgekit.json")
    assert seen[-1] == (total, total)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja"])
def test_one_flipped_bit_is_found(artifact: Path, name: str) -> None:
    flip_a_byte(artifact / name, -1)
    with pytest.raises(VerificationError, match=f"{name} has sha256"):
        verify(artifact)


def test_every_difference_is_named(artifact: Path) -> None:
    data = artifact / "model.onnx.data"
    size = data.stat().st_size
    data.write_bytes(data.read_bytes()[:-5])
    (artifact / "tokenizer.json").unlink()
    (artifact / "sub").mkdir()
    (artifact / "sub" / "extra.bin").write_bytes(b"x")
    flip_a_byte(artifact / "chat_template.jinja", 0)
    with pytest.raises(VerificationError) as caught:
        verify(artifact)
    message = caught.value.message
    assert f"model.onnx.data has {size - 5} bytes, not {size}" in message
    assert "tokenizer.json is missing" in message
    assert "sub/extra.bin is not in the manifest" in message
    assert "chat_template.jinja has sha256" in message
    assert "tokenizer_config.json" not in message


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../b", "./model.onnx", "a\\b"])
def test_a_manifest_cannot_name_files_outside(artifact: Path, name: str) -> None:
    manifest = read_manifest(artifact)
    replace(manifest, files={**manifest.files, name: {"sha256": "0", "size_bytes": 1}}).write(artifact)
    with pytest.raises(ArtifactError, match="not a path inside the artifact"):
        verify(artifact)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, " lacks sha256"),
        ({"sha256": "0"}, " lacks size_bytes"),
        ({"sha256": 0, "size_bytes": 1}, ": sha256 is 0; it must be text"),
        (None, " is null; it must be an object"),
    ],
)
def test_an_invalid_entry_is_named(artifact: Path, entry: dict[str, object] | None, words: str) -> None:
    manifest = read_manifest(artifact)
    replace(manifest, files={**manifest.files, "model.onnx": entry}).write(artifact)  # type: ignore[dict-item]
    with pytest.raises(ArtifactError, match=rf"edgekit\.json: files 'model\.onnx'{words}"):
        verify(artifact)
