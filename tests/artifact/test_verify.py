"""Verification: every changed, missing or extra file is found and named."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_artifact import rewrite_manifest, write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.verify import verified, verify
from edgekit.errors import ArtifactError, UsageError, VerificationError
from edgekit.runtime.loading import load


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
    path = artifact / "edgekit.json"
    content = json.loads(path.read_bytes())
    content["files"]["model.onnx"] = entry
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match=rf"edgekit\.json: files 'model\.onnx'{words}"):
        verify(artifact)


def test_every_byte_of_the_manifest_counts(artifact: Path) -> None:
    path = artifact / "edgekit.json"
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(ArtifactError):
            verify(artifact)
    path.write_bytes(content.replace(b"llama", b"qwen2"))
    with pytest.raises(VerificationError, match=r"edgekit\.json was changed: its digest is [0-9a-f]{64}, not"):
        verify(artifact)


def test_the_digest_that_is_expected(artifact: Path) -> None:
    digest = read_manifest(artifact).digest
    assert digest is not None
    assert verify(artifact, expect=digest.upper()).digest == digest
    rewrite_manifest(artifact, name="another")
    assert verify(artifact).name == "another"
    with pytest.raises(VerificationError, match=f"has the digest [0-9a-f]{{64}}, not {digest}"):
        verify(artifact, expect=digest)
    with pytest.raises(UsageError, match="is not a digest"):
        verify(artifact, expect="4711")


def test_format_version_1_has_no_digest(artifact: Path) -> None:
    fields = json.loads((artifact / "edgekit.json").read_bytes())
    del fields["digest"]
    (artifact / "edgekit.json").write_text(json.dumps(fields))
    with pytest.raises(ArtifactError, match="digest must be 64 hexadecimal digits"):
        verify(artifact)
    (artifact / "edgekit.json").write_text(json.dumps({**fields, "format_version": 1}))
    found = verified(artifact)
    assert found.digest == hashlib.sha256((artifact / "edgekit.json").read_bytes()).hexdigest()
    assert "format version 1, in which edgekit.json has no digest of its own" in found.notes[0]
    assert verify(artifact, expect=found.digest).digest is None


@pytest.mark.parametrize("target", ["/etc/hostname", "nowhere", "tokenizer.json", "../gone"])
def test_links_that_lead_out_are_refused(artifact: Path, tmp_path: Path, target: str) -> None:
    (artifact / "tokenizer.json").rename(tmp_path / "gone")
    (artifact / "tokenizer.json").symlink_to(target)
    for check in (verify, load):
        with pytest.raises(VerificationError, match=r"is refused: tokenizer\.json is a link to"):
            check(artifact)


def test_an_artifact_in_the_cache_of_the_hub(artifact: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "a1"
    snapshot.mkdir(parents=True)
    artifact.rename(repository / "blobs")
    for path in (repository / "blobs").iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert verify(snapshot).name == "tiny"
    load(snapshot, engine="ort", threads=1).close()


def test_pipes_and_empty_folders_are_refused(artifact: Path) -> None:
    (artifact / "sub").mkdir()
    with pytest.raises(VerificationError, match="the folder sub is not in the manifest"):
        verify(artifact)
    (artifact / "sub").rmdir()
    (artifact / "tokenizer.json").unlink()
    os.mkfifo(artifact / "tokenizer.json")
    with pytest.raises(VerificationError, match=r"tokenizer\.json is neither a file nor a folder"):
        verify(artifact)
