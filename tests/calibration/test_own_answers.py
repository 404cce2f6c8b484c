"""The model's own answers: several at once equal single answers; messages of the worker process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from open_engine import engine
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build
from edgekit.calibration import own_answers
from edgekit.calibration.own_answers import PromptAnswers, own_texts
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CalibrationError
from edgekit.models import spec_from_config
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.loading import load
from edgekit.runtime.native_engine import NativeEngine
from edgekit.sampling import Sampling
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.worker import run_worker

GREEDY = Sampling(temperature=0)
CONTEXT = 120
TIE = 0.05  # of the largest logit: rounding decides between tokens that are so close


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("own")
    checkpoint = write_checkpoint(made / "tiny", "qwen2")
    return build(None, "cpu", checkpoint=checkpoint, out=made / "out", gate=False).artifact


def answers(folder: Path, together: int, prompts: list[list[int]], stops: frozenset[int]) -> PromptAnswers:
    reader = NativeEngine.open(folder, read_manifest(folder), EngineOptions(context=CONTEXT, threads=2))
    return PromptAnswers(reader, [reader.fork() for _ in range(together)], prompts, GREEDY, stops)


def test_several_at_once_each_choose_the_best_token(folder: Path) -> None:
    """Judged by a session that reads each text alone, not by the text that it would have written."""
    prompts = [[5, 6, 7], list(range(9, 60)), [200], [3, 1, 4, 1, 5], list(range(100, 130)), [8] * 11]
    with load(folder, engine="native", context=CONTEXT, threads=1) as session:
        alone = [
            [*ids, *session.generate(ids, max_tokens=CONTEXT - len(ids), sampling=GREEDY).complete().tokens]
            for ids in prompts
        ]
    stops = frozenset(read_manifest(folder).tokens["eos"])
    total = sum(map(len, alone))
    reports: list[int] = []
    for together in (1, 3, 8):
        found = answers(folder, together, prompts, stops).texts(total - 8 * CONTEXT // 3, reports.append)
        assert sum(map(len, found)) == total - 8 * CONTEXT // 3
        for text, ids in zip(found, prompts, strict=False):
            assert text[: len(ids)] == ids[: len(text)]
            rows = engine(folder, "native", all_logits=True, context=CONTEXT, threads=1).evaluate(text[:-1])
            for row, token in zip(rows[len(ids) - 1 :], text[len(ids) :], strict=True):
                assert row.max() - row[token] <= TIE * np.abs(rows).max()
    assert reports
    assert max(reports) < total


def test_stops_and_long_prompts(folder: Path) -> None:
    """If every id ends the answer, each answer has one token; a prompt as long as the context gets none."""
    prompts = [[5, 6, 7], list(range(150)), [8] * 11]
    found = answers(folder, 2, prompts, frozenset(range(1000))).texts(CONTEXT + 5 * 16, lambda _: None)
    assert [len(text) for text in found[:3]] == [4, CONTEXT, 12]
    assert found[1] == prompts[1][:CONTEXT]
    assert found[3][:3] == [5, 6, 7], "again from the first"


def test_the_worker_answers_or_says_why_not(folder: Path, tmp_path: Path) -> None:
    request = {
        "folder": str(folder),
        "facts": read_manifest(folder).facts_json(),
        "tokens": 40,
        "context": 64,
        "threads": 1,
    }
    *progress, last = run_worker(own_answers.__name__, request)
    assert sum(map(len, last["texts"])) == 40
    assert progress == sorted(progress, key=lambda message: message["tokens"])
    (only,) = run_worker(own_answers.__name__, {**request, "folder": str(tmp_path / "nowhere")})
    assert "nowhere" in only["error"]


def test_an_error_of_the_worker_is_a_calibration_error(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_answers, "run_worker", lambda *_: iter([{"tokens": 1}, {"error": "no room"}]))
    with open_checkpoint(folder.parent / "tiny") as opened:
        spec = spec_from_config(opened.config)
        source = CheckpointWeights(opened, spec)
        with pytest.raises(CalibrationError, match="answers to calibrate on: no room"):
            own_texts(tmp_path, read_manifest(folder), spec, source, {}, 9, 1)
