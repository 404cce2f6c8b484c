"""The comparison of answers with and without a feature (``tools/answer_speed.py``)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from shared_models import SharedModels

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import answer_speed  # noqa: E402


@pytest.mark.parametrize("what", list(answer_speed.REQUESTS))
def test_each_request_is_answered_with_the_feature_and_without(models: SharedModels, what: str) -> None:
    if what == "schema":
        pytest.importorskip("llguidance")
    artifact = models.artifact("qwen2", max_position_embeddings=4096)
    pairs = list(answer_speed.measure(artifact, what, tokens=6, rounds=1, threads=1))
    assert len(pairs) == len(answer_speed.REQUESTS[what])
    assert all(pair.ratio == pair.on_tok_s / pair.off_tok_s > 0 for pair in pairs)
    assert all(0 < pair.tokens <= 6 and 0 <= pair.guessed <= pair.tokens for pair in pairs)


def test_the_command_prints_the_median(
    models: SharedModels, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = models.artifact("qwen2", max_position_embeddings=4096)
    options = ["--tokens", "4", "--rounds", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["answer_speed.py", str(artifact), "quote", *options])
    answer_speed.main()
    *lines, last = capsys.readouterr().out.splitlines()
    ratios = sorted(float(re.findall(r"ratio (\S+);", line)[0]) for line in lines)
    assert len(ratios) == 3
    assert float(last.removeprefix("median ratio ")) == ratios[1]
