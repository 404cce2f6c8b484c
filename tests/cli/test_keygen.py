from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from invoke import Invoke
from tiny_artifact import write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.signature import sign


def test_keys_that_sign_and_check(invoke: Invoke, tmp_path: Path) -> None:
    key = tmp_path / "key"
    made = invoke("keygen", key, "--json").json()
    assert made["public_key_file"] == f"{key}.pub"
    artifact = write_tiny_artifact(tmp_path / "tiny")
    digest = read_manifest(artifact).digest
    assert digest is not None
    assert invoke("verify", artifact, "--public-key", f"{key}.pub").exit_code == 61
    sign(artifact, digest, key)
    outcome = invoke("verify", artifact, "--public-key", f"{key}.pub", "--expect", digest)
    assert f"digest: {digest}, as expected\nsigned by: {made['public_key']}\n" in outcome.text
    assert "whose key this is" in invoke("verify", artifact).text
    found = invoke("verify", artifact, "--json").json()
    assert (found["digest"], found["signed_by"], found["notes"]) == (digest, made["public_key"], [])


def test_a_key_is_never_overwritten(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("keygen", tmp_path / "key").text.startswith(
        f"{tmp_path / 'key'}: the private key, readable only by you"
    )
    again = invoke("keygen", tmp_path / "key")
    assert again.exit_code == 2
    assert "already exists" in again.stderr
