"""Verdicts in files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.runtime.proof.verdict import Subject, Verdict, artifact_id, find_verdict, kept_verdicts
from edgekit.runtime.provider import Setup

SUBJECT = Subject("webgpu", "Some GPU", "1.2.3", "onnxruntime 1.32.0", "ab" * 32)
VERDICT = Verdict(SUBJECT, "tiny", True, Setup(31, ("/a",), True), "fine", ("x is wrong",), 3, 12, 1e-6, 1e-5, 0.0, 2.5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    return tmp_path


def test_a_verdict_is_found_again_for_the_same_subject_only() -> None:
    assert find_verdict(SUBJECT) is None
    VERDICT.keep()
    assert find_verdict(SUBJECT) == VERDICT
    for change in ({"driver": "1.2.4"}, {"adapter": "Other"}, {"versions": "new"}, {"artifact": "cd"}, {"version": 99}):
        assert find_verdict(replace(SUBJECT, **change)) is None
    assert kept_verdicts() == [VERDICT]


def test_errors_that_are_not_finite_are_kept() -> None:
    failed = replace(VERDICT, passed=False, kernel_error=math.inf, logits_error=None, mean_kl=None)
    failed.keep()
    assert find_verdict(SUBJECT) == failed


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"setup": 3}', '{"setup": {"prefill_chunk": 1}}'])
def test_a_damaged_file_is_no_verdict(content: str) -> None:
    VERDICT.keep()
    SUBJECT.path().write_text(content)
    assert find_verdict(SUBJECT) is None
    assert kept_verdicts() == []


@pytest.mark.parametrize("field", [key for key, value in VERDICT.to_json().items() if value is not None])
def test_null_is_no_value(field: str) -> None:
    VERDICT.keep()
    content = VERDICT.to_json() | {field: None}
    SUBJECT.path().write_text(json.dumps(content))
    assert find_verdict(SUBJECT) is None or field in ("kernel_error", "logits_error", "mean_kl")


def test_a_cache_that_cannot_be_written_is_left_alone(cache: Path) -> None:
    (cache / "proofs").write_text("a file")
    VERDICT.keep()
    assert find_verdict(SUBJECT) is None


def test_an_artifact_without_a_manifest_is_known_by_its_graph(artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((artifact / "model.onnx").read_bytes())
    assert artifact_id(folder) != artifact_id(artifact)
