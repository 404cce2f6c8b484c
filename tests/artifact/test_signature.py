"""Signatures: made, checked, demanded; every byte of the file counts."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from tiny_artifact import rewrite_manifest, write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.signature import (
    check_signature,
    make_keys,
    open_private_key,
    open_public_key,
    read_signature,
    sign,
    sign_file,
)
from edgekit.artifact.verify import verified, verify
from edgekit.errors import MissingPackageError, UsageError, VerificationError


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_tiny_artifact(tmp_path / "tiny")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_keys(tmp_path / "key")
    return tmp_path / "key"


def signed(artifact: Path, key: Path) -> str:
    digest = read_manifest(artifact).digest
    assert digest is not None
    return sign(artifact, digest, key)


def test_an_artifact_is_signed_and_checked(artifact: Path, key: Path) -> None:
    assert verified(artifact).signed_by is None
    public = signed(artifact, key)
    assert verified(artifact).signed_by == public
    for name in (key.with_name("key.pub"), public, public.upper()):
        assert verified(artifact, public_key=name).signed_by == public
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_what_is_demanded_and_not_there(artifact: Path, key: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"is not signed, and a signature by [0-9a-f]{64} is demanded"):
        verify(artifact, public_key=key.with_name("key.pub"))
    public = signed(artifact, key)
    other = make_keys(tmp_path / "other")
    with pytest.raises(VerificationError, match=f"is signed by {public}, not by {open_public_key(other)}"):
        verify(artifact, public_key=other)


def test_an_artifact_that_was_changed_after_it_was_signed(artifact: Path, key: Path) -> None:
    signed(artifact, key)
    rewrite_manifest(artifact, name="another")
    with pytest.raises(VerificationError, match="is not a signature of this artifact"):
        verify(artifact)


def test_every_byte_counts(artifact: Path, key: Path) -> None:
    public = signed(artifact, key)
    path = artifact / "edgekit.sig"
    content = path.read_bytes()
    digest = read_manifest(artifact).digest
    assert digest is not None
    changes = [content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in range(len(content))]
    changes += [content[:at] for at in (0, 1, len(content) - 1)] + [content + b"\n", content.upper(), b"[" * 50_000]
    for change in changes:
        path.write_bytes(change)
        with pytest.raises(VerificationError):
            check_signature(artifact, digest, None)
    path.write_bytes(content)
    assert check_signature(artifact, digest, public) == public


def test_files_that_are_not_keys(key: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    make = ["openssl", "genpkey", "-algorithm", "x25519", "-out", str(tmp_path / "x25519")]
    subprocess.run(make, check=True, capture_output=True)
    for path, words in ((tmp_path / "text", "is not a private key"), (tmp_path / "x25519", "is not an Ed25519 key")):
        with pytest.raises(UsageError, match=words) as caught:
            open_private_key(path)
        assert "edgekit keygen" in caught.value.hint
    with pytest.raises(UsageError, match="is not a public key"):
        open_public_key(tmp_path / "text")
    with pytest.raises(UsageError, match="is a public key; signing needs the private key"):
        open_private_key(key.with_name(f"{key.name}.pub"))
    with pytest.raises(UsageError, match="is a private key; the public key is needed"):
        open_public_key(key)
    with pytest.raises(UsageError, match="missing"):
        open_public_key(tmp_path / "missing")


def test_a_key_needs_a_name() -> None:
    for path in ("", ".", "/"):
        with pytest.raises(UsageError, match="which has no name"):
            make_keys(Path(path))


def test_no_key_is_overwritten(key: Path, tmp_path: Path) -> None:
    old = key.read_bytes()
    with pytest.raises(UsageError, match="already exists"):
        make_keys(key)
    key.unlink()
    with pytest.raises(UsageError, match=r"key\.pub already exists"):
        make_keys(key)
    assert old
    with pytest.raises(UsageError, match="cannot write the key"):
        make_keys(tmp_path / "missing" / "key")


def test_a_full_disk_leaves_no_half_of_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", no_space)  # the private key is written, the public one is not
    with pytest.raises(UsageError, match=r"cannot write the key.*No space left"):
        make_keys(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    make_keys(tmp_path / "key")
    assert {path.name for path in tmp_path.iterdir()} == {"key", "key.pub"}


def test_keys_and_signatures_of_openssl(artifact: Path, tmp_path: Path) -> None:
    key = tmp_path / "openssl"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    assert verified(artifact).signed_by is None
    public = signed(artifact, key)
    assert verified(artifact, public_key=public).signed_by == public
    (tmp_path / "file").write_bytes(b"content")
    sign_file(tmp_path / "file", tmp_path / "file.sig", key)
    subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(tmp_path / "pub")], check=True)
    check = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "pub",
        "-rawin",
        "-in",
        "file",
        "-sigfile",
        "file.sig",
    ]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0


def test_without_the_package(artifact: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = signed(artifact, key)
    assert read_signature(artifact) is not None
    monkeypatch.setitem(sys.modules, "cryptography", None)
    found = verified(artifact)
    assert found.signed_by is None
    assert "the signature was not checked: signing or checking a signature needs cryptography" in found.notes[0]
    with pytest.raises(MissingPackageError, match="cryptography") as caught:
        verify(artifact, public_key=public)
    assert "edgekit-llm[sign]" in caught.value.hint
