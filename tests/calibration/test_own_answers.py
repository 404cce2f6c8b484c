"""The model's own answers: several at once are what each would be alone; what the process says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build
from edgekit.calibration import own_answers as module
from edgekit.errors import CalibrationError
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.native_engine import NativeEngine
from edgekit.runtime.session import load
from edgekit.sampling import Sampling

GREEDY = Sampling(temperature=0)
CONTEXT = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("own")
    checkpoint = write_checkpoint(made / "tiny", "qwen2")
    return build(None, "cpu", checkpoint=checkpoint, out=made / "out", gate=False).artifact


def answers(folder: Path, together: int, prompts: list[list[int]], stops: frozenset[int]) -> module._Answers:
    reader = NativeEngine.open(folder, read_manifest(folder), EngineOptions(context=CONTEXT, threads=2))
    made = module._Answers(
        reader, [reader.fork() for _ in range(together)], lambda prompt: prompts[int(prompt)], GREEDY, stops
    )
    made._prompts = [str(i) for i in range(len(prompts))]
    return made


def test_several_at_once_are_what_each_is_alone(folder: Path) -> None:
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
        for text, whole in zip(found, alone, strict=False):
            same = next((i for i, (a, b) in enumerate(zip(text, whole, strict=False)) if a != b), len(text))
            assert same >= min(len(text), 40), "sums in another order may tip a token over, but late"
    assert reports
    assert max(reports) < total


def test_stops_and_long_prompts(folder: Path) -> None:
    """Every id ends the answer: each has one token; a prompt as long as the context has none."""
    prompts = [[5, 6, 7], list(range(150)), [8] * 11]
    found = answers(folder, 2, prompts, frozenset(range(1000))).texts(CONTEXT + 5 * 16, lambda _: None)
    assert [len(text) for text in found[:3]] == [4, CONTEXT, 12]
    assert found[1] == prompts[1][:CONTEXT]
    assert found[3][:3] == [5, 6, 7], "again from the first"


def test_an_error_of_the_process_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = json.dumps({"folder": str(folder / "nowhere"), "tokens": 9, "context": 64, "threads": 1})
    done = subprocess.run([sys.executable, "-m", module.__name__], input=request, capture_output=True, text=True)
    assert "nowhere" in json.loads(done.stdout)["error"]
    monkeypatch.setattr(module, "_run", lambda request: iter([{"tokens": 1}, {"error": "no room"}]))
    monkeypatch.setattr(module, "export_model", lambda *a, **k: None)
    spec = type("Spec", (), {"parameters": 1, "context_length": 64})()
    with pytest.raises(CalibrationError, match="answers to calibrate on: no room"):
        module.own_texts(folder, spec, None, {}, read_manifest(folder), 9, 1)  # type: ignore[arg-type]


def test_a_process_that_dies_leaves_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = module._run({})  # a request that nobody would send
    assert said == {"error": "their process ended with code 1: KeyError: 'folder'"}
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    (said,) = module._run({"folder": "x" * 2**20})  # more than a pipe holds: it breaks while being written
    assert said == {"error": "their process ended with code 1: no message"}
