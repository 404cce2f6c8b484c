"""The gate passes a good artifact, rejects and keeps a broken one and names its layer, and lists skipped checks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_checkpoint import tiny_config, write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.verify import verify
from edgekit.build import steps
from edgekit.build.pipeline import build
from edgekit.errors import OutputExistsError, QualityError
from edgekit.models import spec_from_config
from edgekit.quality import gate
from edgekit.quality.answers import QUESTIONS, Answer
from edgekit.quality.evaluation import evaluate
from edgekit.quality.scores import Figures
from edgekit.recipes.quality import Thresholds

GOOD = Figures(mean_kl=0.1, p99_kl=1.0, top1=0.9, perplexity=11.0, reference_perplexity=10.0, tokens=1000)
LAYERS = 4
FACTOR = 16  # random weights have flat predictions, which less does not move beyond the thresholds


def damage(folder: Path, matrix: str) -> None:
    """Make one matrix larger than it should be."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    (scales,) = (t for t in model.graph.initializer if t.name == f"{matrix}.scales")
    place = {e.key: e.value for e in scales.external_data}
    data = np.memmap(folder / "model.onnx.data", np.float32, "r+", int(place["offset"]), tuple(scales.dims))
    data *= FACTOR
    data.flush()


def test_a_good_artifact_passes_and_its_manifest_has_the_figures(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "qwen2")
    phases = set()
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", progress=lambda phase, *_: phases.add(phase))
    quality = result.to_json()["quality"]
    assert quality == read_manifest(result.artifact).quality
    assert quality["passed"]
    assert 0 < quality["mean_kl"] < quality["p99_kl"]
    assert quality["perplexity_ratio"] == pytest.approx(quality["perplexity"] / quality["reference_perplexity"], 1e-4)
    assert list(quality["losses"]) == ["embedding", "layers.0", "layers.1", "lm_head"]
    assert "measuring quality" in phases
    on_demand = evaluate(result.artifact, folder)
    for key, value in dataclasses.asdict(on_demand).items():
        assert quality[key] == pytest.approx(value, rel=1e-5), key


def test_random_weights_are_judged_only_by_kl_and_perplexity(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "llama")
    quality = build(None, "cpu", checkpoint=folder, out=tmp_path / "out").manifest.quality
    assert quality is not None
    checks = {c["name"]: c for c in quality["checks"]}
    assert checks["max_mean_kl"]["passed"] is True
    assert checks["min_top1"]["passed"] is None
    assert "the float model itself has a perplexity of" in checks["min_top1"]["detail"]
    assert checks["no_loops"]["passed"] is None
    assert checks["no_loops"]["detail"] == "not checked: the float model itself does not predict text"


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Damages a matrix of each artifact after it is written and before it is measured."""
    measured = steps.measure_quality

    def install(matrix: str) -> None:
        def damaged(job: steps.Job, *rest: object) -> object:
            damage(job.folder, matrix)
            return measured(job, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(steps, "measure_quality", damaged)

    return install


def test_a_broken_layer_is_refused_named_and_kept_aside(tmp_path: Path, breaking: Callable[[str], None]) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "llama", num_hidden_layers=LAYERS)
    breaking("model.layers.2.mlp.gate_up_proj")
    with pytest.raises(QualityError) as caught:
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out")
    message = caught.value.message
    assert "tiny is too far from its float model: " in message
    assert "mean KL" in message
    assert "allowed at most" in message
    assert "The largest losses are in layers.2 (" in message
    kept = tmp_path / "out.rejected"
    assert f"It is kept in {kept}" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.rejected", "tiny"]
    verify(kept)
    quality = read_manifest(kept).quality
    assert quality is not None
    assert not quality["passed"]
    assert max(quality["losses"], key=quality["losses"].get) == "layers.2"
    assert evaluate(kept, folder).mean_kl == pytest.approx(quality["mean_kl"], rel=1e-5)
    with pytest.raises(QualityError):  # the one kept before is replaced
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.rejected", "tiny"]


def test_a_refused_build_replaces_nothing_and_emits_nothing(tmp_path: Path, breaking: Callable[[str], None]) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "llama", num_hidden_layers=LAYERS)
    first = build(None, "cpu", checkpoint=folder, out=tmp_path / "out")
    breaking("model.layers.1.mlp.gate_up_proj")
    with pytest.raises(QualityError, match=r"out-gptq_v2 was not written"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", force=True, emit="gptq_v2")
    assert read_manifest(tmp_path / "out") == first.manifest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.rejected", "tiny"]


def test_without_the_gate_nothing_is_measured(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "llama")
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)
    assert result.manifest.quality is None


def test_a_rejected_artifact_does_not_replace_an_unrelated_folder(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "llama")
    (tmp_path / "out.rejected").mkdir()
    (tmp_path / "out.rejected" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match=r"out\.rejected exists and is not an artifact"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out")


def test_thresholds_come_from_the_recipe(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "llama")
    config = tiny_config("llama")
    lines = [f"{k} = {json.dumps(v)}" for k, v in config.items()]
    scheme = "{ bits = 4, block_size = 32, symmetric = true }"
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'title = "t"\nlicence = "l"\nparameters = {spec_from_config(config).parameters}\n'
        "reasoning = false\nmax_context = 128\n"
        f'[source]\nkind = "folder"\npath = {json.dumps(str(folder))}\n[config]\n' + "\n".join(lines) + "\n"
        f'[quantization]\nmethod = "rtn"\nlinear = {scheme}\nembedding = {scheme}\nlm_head = {scheme}\n'
        "[quality]\nmax_mean_kl = 0.0\n"
    )
    with pytest.raises(QualityError, match=r"mean KL 0\.\d+, allowed at most 0"):
        build(recipe, "cpu", out=tmp_path / "out")
    assert read_manifest(tmp_path / "out.rejected").recipe["name"] == "mine"


def test_fewer_tokens_are_recorded(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "llama")
    quality = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", quality_tokens=50).manifest.quality
    assert quality is not None
    assert quality["tokens"] == 50


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, set()),
        ({"mean_kl": 0.7}, {"max_mean_kl"}),
        ({"mean_kl": float("nan")}, {"max_mean_kl"}),
        ({"p99_kl": 5.0}, {"max_p99_kl"}),
        ({"perplexity": 100.0}, {"max_perplexity_ratio"}),
        ({"perplexity": float("inf")}, {"max_perplexity_ratio"}),
        ({"top1": 0.1}, {"min_top1"}),
    ],
)
def test_figures_against_thresholds(change: dict[str, float], failed: set[str]) -> None:
    checks = gate.judge_figures(dataclasses.replace(GOOD, **change), Thresholds(), fluent=True)
    assert {c.name for c in checks if not c.passed} == failed
    json.dumps([dataclasses.asdict(c) for c in checks], allow_nan=False)


def said(loop: int | None, closed: bool | None, finish: str = "stop", room: int = 2048) -> Answer:
    return Answer("What?", "text", 10, finish if loop is None else "loop", loop, closed, room)


@pytest.mark.parametrize(
    ("perplexity", "vocab_size", "expected"),
    [
        (10.0, 50_000, True),
        (1100.0, 50_000, False),
        (20.0, 50, False),
        (float("nan"), 50_000, False),
        (float("inf"), 50_000, False),
    ],
)
def test_whether_a_float_model_predicts_text(perplexity: float, vocab_size: int, expected: bool) -> None:
    figures = dataclasses.replace(GOOD, reference_perplexity=perplexity)
    assert gate.predicts_text(figures, vocab_size) is expected


def test_answers_against_thresholds() -> None:
    def failed(answers: list[Answer], **limits: bool) -> set[str]:
        checks = gate.judge_answers(answers, "", dataclasses.replace(Thresholds(), **limits), reasoning=True)
        return {c.name for c in checks if c.passed is False}

    assert failed([said(None, True), said(None, False)]) == set(), "one long thought may be cut off"
    assert failed([said(None, False), said(None, False)]) == {"thought_closes"}
    assert failed([said(None, None)]) == set(), "no thought was opened"
    assert failed([said(3, True), said(None, True), said(None, True)]) == set(), "the float model's own may loop, too"
    assert failed([said(3, True), said(3, True), said(None, True)]) == {"no_loops", "answers_end"}
    assert failed([said(3, False)], no_loops=False, thought_closes=False, answers_end=False) == set()
    names = [c.name for c in gate.judge_answers([said(None, None)], "", Thresholds(), reasoning=False)]
    assert names == ["answers_end", "no_loops"]


def test_answers_without_an_end() -> None:
    def result(answers: list[Answer], reasoning: bool = False) -> gate.Check:
        return next(c for c in gate.judge_answers(answers, "", Thresholds(), reasoning) if c.name == "answers_end")

    ended, endless = said(None, None), said(None, None, "length", 512)
    assert result([ended, ended, endless]).passed is True, "one of three may run on"
    found = result([endless, endless])
    assert found.passed is False
    assert found.detail == "0 of 2 answers end" + "; 'What?': no end in 10 tokens" * 2
    assert result([said(None, None, "context", 512)] * 2).passed is False
    assert result([endless, said(3, None), ended]).passed is False, "a loop has no end"
    short = said(None, None, "length", 256)
    assert result([short, short, short]).passed is None, "it may only have been cut off"
    assert "not judged: an answer needs room for 512" in result([short]).detail
    assert result([short, short, ended]).passed is True
    assert result([endless, endless], reasoning=True).passed is None, "a thought needs more room"
    assert result([said(None, False, "length")] * 2, reasoning=True).passed is False


def test_an_artifact_that_predicts_text_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The artifact is asked in a separate process, which leaves no files in the folder."""
    monkeypatch.setattr(gate, "predicts_text", lambda figures, vocab_size: True)
    monkeypatch.setattr(gate, "judge_figures", lambda figures, thresholds, fluent: [])
    folder = write_checkpoint(tmp_path / "tiny", "llama")
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", quality_tokens=64)
    verify(result.artifact)
    quality = result.manifest.quality
    assert quality is not None
    assert [a["question"] for a in quality["answers"]] == list(QUESTIONS)[: len(quality["answers"])]
    assert len(quality["answers"]) >= 2, "two loops decide"
    assert all(a["tokens"] > 0 and a["thought_closed"] is None for a in quality["answers"])
    checks = {c["name"]: c["passed"] for c in quality["checks"]}
    assert checks["no_loops"] is not None
    assert checks["answers_end"] is None or all(a["finish_reason"] == "stop" for a in quality["answers"])
