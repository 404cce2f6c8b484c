"""The replay of a golden test tolerates differences from rounding and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_artifact import rewrite_manifest, write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import ArtifactError
from edgekit.runtime.engine import EngineOptions, open_engine
from edgekit.runtime.replay import LOGIT_TOLERANCE, TIE_TOLERANCE, Check, check_logits, check_tokens, golden_of, replay


def row(*logits: float) -> np.ndarray:
    return np.array(logits, np.float32)


def test_logits_may_differ_by_the_tolerance() -> None:
    recorded = [{"id": 0, "logit": 5.0}, {"id": 2, "logit": 1.0}]
    assert check_logits(row(5.0, 99.0, 1.0), recorded).passed
    assert check_logits(row(5.0 - 0.9 * LOGIT_TOLERANCE, 0.0, 1.0), recorded).passed
    assert not check_logits(row(5.0, 0.0, 1.0 + 1.1 * LOGIT_TOLERANCE), recorded).passed
    assert not check_logits(row(5.0, 0.0, float("nan")), recorded).passed
    assert not check_logits(row(5.0, 0.0), recorded).passed


def test_tokens_may_differ_at_a_tie() -> None:
    assert check_tokens([row(1.0, 9.0), row(9.0, 1.0)], [1, 0]) == Check(
        "golden_tokens", True, "2 of 2 tokens are the same"
    )
    level = check_tokens([row(5.0, 5.0 + 0.9 * TIE_TOLERANCE), row(9.0, 1.0)], [0, 0])
    assert level == Check("golden_tokens", True, "1 of 2 tokens are the same, 1 ties")
    clear = check_tokens([row(5.0, 5.0 + 1.1 * TIE_TOLERANCE)], [0])
    assert not clear.passed
    assert "token 1 of 1 is 1, not 0" in clear.detail
    assert not check_tokens([row(5.0, 5.0)], [7]).passed


def test_a_replay_gives_the_logits_before_each_recorded_token(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "tiny")
    manifest = read_manifest(folder)
    golden = golden_of(folder, manifest)
    engine = open_engine(folder, manifest, EngineOptions(threads=1))
    rows = replay(engine, golden)
    engine.close()
    assert [int(row.argmax()) for row in rows] == golden["continuation_ids"]
    assert check_tokens(rows, golden["continuation_ids"]).passed
    assert check_logits(rows[0], golden["top_logits"]).passed


def test_an_incomplete_golden_test_is_an_error(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "tiny")
    golden = golden_of(folder, read_manifest(folder))
    with pytest.raises(ArtifactError, match="lacks top_logits"):
        golden_of(folder, rewrite_manifest(folder, golden={**golden, "top_logits": []}))
    with pytest.raises(ArtifactError, match="has no golden test"):
        golden_of(folder, rewrite_manifest(folder, golden=None))


def test_a_device_needs_no_onnx_for_it() -> None:
    check = "import edgekit.runtime.replay, sys; print([m for m in ('onnx', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
