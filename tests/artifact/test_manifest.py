"""Reading and writing edgekit.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_artifact import write_tiny_artifact

from edgekit.artifact.manifest import FORMAT_VERSION, read_manifest
from edgekit.errors import ArtifactError, BuildError


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_artifact(tmp_path_factory.mktemp("manifest") / "tiny")


def test_a_manifest_survives_writing_and_reading(artifact: Path, tmp_path: Path) -> None:
    manifest = read_manifest(artifact)
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert (tmp_path / "edgekit.json").read_bytes() == (artifact / "edgekit.json").read_bytes()


def test_text_is_written_as_utf_8_and_keys_are_sorted(artifact: Path, tmp_path: Path) -> None:
    replace(read_manifest(artifact), name="größe").write(tmp_path)
    text = (tmp_path / "edgekit.json").read_text(encoding="utf-8")
    assert "größe" in text
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits_per_weight": 65.0}, "bits_per_weight is 65.0"),
        ({"name": "x" * 10_001}, "name is 'x"),
        ({"quality": {"mean_kl": float("nan")}}, "cannot be written as JSON"),
        ({"quality": {"a": 1e400}}, "cannot be written as JSON"),
        ({"sampling": {"seed": 10**101}}, "has 102 digits"),
        ({"notes": ["x" * 10_000] * 1700}, "larger than 16777216 bytes"),
    ],
)
def test_what_would_not_be_read_is_not_written(
    artifact: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        replace(read_manifest(artifact), **changes).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("logit", [3.4028234663852886e38, -3.4028234663852886e38])
def test_every_finite_logit_is_read_back(artifact: Path, tmp_path: Path, logit: float) -> None:
    golden = {"prompt_ids": [1], "continuation_ids": [2], "top_logits": [{"id": 2, "logit": logit}]}
    replace(read_manifest(artifact), golden=golden).write(tmp_path)
    assert read_manifest(tmp_path).golden == golden


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere is not a folder") as caught:
        read_manifest(tmp_path / "nowhere")
    assert "edgekit build" in caught.value.hint
    with pytest.raises(ArtifactError, match=r"is not an edgekit artifact: it has no edgekit\.json"):
        read_manifest(tmp_path)


def test_a_folder_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="is not a folder"):
        read_manifest(Path("a\0b"))

    def refused(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(ArtifactError, match="folder cannot be opened: Permission denied"):
        read_manifest(tmp_path / "folder")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[]", "is not a JSON object but a list"),
        (b'{"format": "something"}', 'lacks "format": "edgekit-artifact"'),
        (
            b'{"format": "edgekit-artifact", "format_version": 999, "edgekit_version": "7.0"}',
            f"999 and was built by edgekit 7.0; this edgekit reads format versions up to {FORMAT_VERSION}",
        ),
        (b'{"format": "edgekit-artifact"}', "format_version is null, not a whole number from 1 on"),
        (b'{"format": "edgekit-artifact", "format_version": true}', "format_version is true"),
        (b'{"format": "edgekit-artifact", "format_version": 0}', "format_version is 0"),
        (b" " * (16 * 1024 * 1024 + 1), "larger than the limit of 16777216 bytes"),
    ],
)
def test_files_that_are_not_manifests(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "edgekit.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.pop("sampling"), "lacks the field sampling"),
        (lambda fields: fields.update(sampIing={}), "has an unknown field 'sampIing'; did you mean sampling"),
        (lambda fields: fields.update(tokens=[1]), r"edgekit\.json: tokens is \[1\]; it must be an object"),
        (lambda fields: fields.update(name=5), "json: name is 5; it must be a file name"),
        *(
            (partial(dict.update, name=name), "; it must be a file name of at most")
            for name in ("", ".", "..", "../mine", "/etc", "a\\b", "two\nlines", "\x1b[2J", "a\0", "\u202e")
        ),
        (lambda fields: fields.update(bits_per_weight=True), "bits_per_weight is true; it must be a number from 0 to"),
        (lambda fields: fields.update(files=None), "files is null; it must be an object"),
        (lambda fields: [fields.pop("name"), fields.pop("golden")], "lacks the field golden, name"),
    ],
)
def test_missing_and_unknown_fields_are_named(
    artifact: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    fields = json.loads((artifact / "edgekit.json").read_text(encoding="utf-8"))
    change(fields)
    (tmp_path / "edgekit.json").write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        read_manifest(tmp_path)
