"""edgekit_text.bin is in every artifact whose tokenizer the native library implements; older ones can get it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from shared_models import SharedModels
from text_vocabularies import facts, vocabulary

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.verify import verify
from edgekit.artifact.writer import hash_files
from edgekit.build.text_file import FILE_NAME, add_text_file, checksum, text_file, write_text_file
from edgekit.errors import EngineError
from edgekit.native.text import NativeText
from edgekit.runtime.tokenizer import Tokenizer


def test_a_built_artifact_has_the_file_and_it_gives_the_same_ids(models: SharedModels) -> None:
    artifact = models.artifact("llama")
    manifest = read_manifest(artifact)
    assert manifest.files[FILE_NAME] == hash_files([artifact / FILE_NAME])[FILE_NAME]
    native, text = NativeText(artifact), "What is 2 + 2?\n<think>é"
    assert native.encode(text) == Tokenizer.open(artifact, manifest.tokens).encode(text)
    native.close()


def test_an_older_artifact_gets_the_file(models: SharedModels, tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    for path in models.artifact("llama").iterdir():
        if path.suffix == ".data":
            os.link(path, artifact / path.name)
        else:
            (artifact / path.name).write_bytes(path.read_bytes())
    manifest, content = json.loads((artifact / "edgekit.json").read_text()), (artifact / FILE_NAME).read_bytes()
    entry = manifest["files"].pop(FILE_NAME)
    (artifact / "edgekit.json").write_text(json.dumps(manifest))
    (artifact / FILE_NAME).unlink()
    with pytest.raises(EngineError, match=r"has no edgekit_text.bin: .*add_text_file"):
        NativeText(artifact)
    assert add_text_file(artifact) == ()
    assert (artifact / FILE_NAME).read_bytes() == content
    assert verify(artifact).files[FILE_NAME] == entry
    assert add_text_file(artifact) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"normalizer": {"type": "NFKC"}}, "its normalizer is NFKC; supported: none and NFC"),
        ({"decoder": None}, "its decoder is missing"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "its pre-tokenizer has a step Whitespace"),
        ({"pre_tokenizer": None}, "its pre-tokenizer does not end with ByteLevel"),
        (
            {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}},
            "its model is WordLevel; supported: BPE",
        ),
    ],
)
def test_a_tokenizer_of_another_kind_is_a_warning_and_no_file(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    described = json.loads(vocabulary("qwen2").to_str()) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    found = text_file(tmp_path, facts())
    assert found.content is None
    assert reason in found.warnings[0]
    assert write_text_file(tmp_path, facts()) == found.warnings
    assert not (tmp_path / FILE_NAME).exists()


def test_the_checksum_sees_every_byte() -> None:
    content = bytes(range(64))
    sums = {checksum(content)}
    for place in range(64):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            sums.add(checksum(bytes(changed)))
    assert len(sums) == 1 + 64 * 8
