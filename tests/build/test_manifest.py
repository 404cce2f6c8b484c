"""The manifest that a build writes: the same for the same inputs, with the notes on the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.verify import verified
from edgekit.build.pipeline import build
from edgekit.errors import UsageError


def test_two_builds_differ_only_in_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny", "qwen2")
    a, b = (
        build(None, "cpu", checkpoint=checkpoint, out=tmp_path / n, threads=t).artifact for n, t in (("a", 1), ("b", 2))
    )
    assert {p.name for p in a.iterdir()} == {p.name for p in b.iterdir()}
    for path in a.iterdir():
        if path.name != "edgekit.json":
            assert path.read_bytes() == (b / path.name).read_bytes(), path.name
    first, second = (json.loads((f / "edgekit.json").read_text()) for f in (a, b))
    del first["created"], second["created"], first["digest"], second["digest"]
    assert first == second
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    c, d = (build(None, "cpu", checkpoint=checkpoint, out=tmp_path / name, gate=False) for name in "cd")
    assert c.manifest.created == "2023-11-14T22:13:20+00:00"
    assert c.manifest.digest == d.manifest.digest == verified(c.artifact, expect=d.manifest.digest).digest
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "e")


def test_notes_on_the_checkpoint_reach_the_caller_the_plan_and_the_manifest(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama", tie_word_embeddings=False)) | {"v_head.weight": np.zeros(4)}
    folder = write_checkpoint(tmp_path / "tiny", "llama", tensors, tie_word_embeddings=True)
    heard: list[Sequence[str]] = []
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False, on_notes=heard.append)
    (notes,) = heard
    assert [note.split(" ")[0] for note in notes] == ["config.json", "1"]
    assert notes[0].endswith("differs from the embedding: the stored lm_head is used")
    assert notes[1] == "1 tensor (v_head.weight) not used: a value head, which only training uses"
    assert result.to_json()["plan"]["notes"] == list(notes)
    manifest = read_manifest(result.artifact)
    assert manifest.notes == list(notes)
    assert "notes" not in manifest.plan
    assert json.loads((result.artifact / "config.json").read_text())["tie_word_embeddings"] is False
