"""The digest of an artifact covers every byte, and can be computed without edgekit."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from tiny_artifact import write_tiny_artifact

from edgekit.artifact.digest import ZEROS, digest_of, is_digest, parse_digest, with_digest
from edgekit.artifact.manifest import read_manifest
from edgekit.errors import UsageError

SOME = hashlib.sha256(b"").hexdigest()


def test_it_is_what_the_documented_command_prints(tmp_path: Path) -> None:
    artifact = write_tiny_artifact(tmp_path / "tiny")
    digest = read_manifest(artifact).digest
    command = f"sed s/{digest}/$(printf %064d 0)/ edgekit.json | sha256sum"
    printed = subprocess.run(["sh", "-c", command], cwd=artifact, capture_output=True, text=True, check=True).stdout
    assert printed.split()[0] == digest == digest_of((artifact / "edgekit.json").read_bytes(), digest)


def test_the_same_files_have_the_same_digest_and_others_another(tmp_path: Path) -> None:
    one, two = write_tiny_artifact(tmp_path / "one"), write_tiny_artifact(tmp_path / "two")
    assert read_manifest(one).digest == read_manifest(two).digest
    other = write_tiny_artifact(tmp_path / "other", reasoning=True)
    assert read_manifest(other).digest != read_manifest(one).digest


def test_only_the_field_is_replaced() -> None:
    text = json.dumps({"a": f'"digest": "{ZEROS}"', "digest": ZEROS, "z": {"digest": ZEROS}}, indent=2) + "\n"
    written, digest = with_digest(text)
    assert json.loads(written) == {"a": f'"digest": "{ZEROS}"', "digest": digest, "z": {"digest": ZEROS}}
    assert digest_of(written.encode(), digest) == digest


def test_without_a_digest_it_is_that_of_the_file() -> None:
    assert digest_of(b"content", None) == hashlib.sha256(b"content").hexdigest()


def test_how_people_write_it() -> None:
    assert parse_digest(f" sha256:{SOME.upper()}\n") == SOME
    for text in ("", SOME[:-1], SOME + "0", "g" * 64, "sha512:" + SOME):
        with pytest.raises(UsageError, match="is not a digest: it must have 64 hexadecimal digits"):
            parse_digest(text)
    assert not any(map(is_digest, (None, 5, SOME.upper(), SOME + "\n")))
