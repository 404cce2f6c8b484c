from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_artifact import CONTEXT_LENGTH

from edgekit.errors import ContextLengthError, VerificationError
from edgekit.probe import shares
from edgekit.probe.bench import bench, time_round
from edgekit.probe.limits import Limits
from edgekit.runtime.loading import load

LIMITS = Limits(bandwidth_gb_s=0.001, kernel_gmac_s=0.01, kernel="scalar", threads=1)


@pytest.fixture(autouse=True)
def _known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine, measured in no time."""
    monkeypatch.setattr(shares, "measure_limits", lambda threads: LIMITS)


def test_every_length_is_measured_with_its_spread(artifact: Path) -> None:
    phases = []
    result = bench(
        artifact,
        prompt_tokens=(8, 40, 8),
        gen_tokens=3,
        repeat=2,
        threads=1,
        progress=lambda phase, done, total: phases.append((phase, done, total)),
    )
    assert [p.tokens for p in result.prefill] == [8, 40]
    assert [d.context for d in result.decode] == [0, 8, 40]
    for speed in (*result.prefill, *result.decode):
        assert 0 < speed.tok_s_min <= speed.tok_s <= speed.tok_s_max
    for p in result.prefill:
        assert p.ttft_s_min <= p.ttft_s <= p.ttft_s_max
        assert p.tok_s_max == pytest.approx(p.tokens / p.ttft_s_min)
    assert (result.name, result.engine, result.threads, result.repeat, result.gen_tokens) == ("tiny", "ort", 1, 2, 3)
    assert result.load_s > 0
    assert [p for p in phases if p[0] == "measuring"] == [("measuring", done, 3) for done in range(4)]
    assert (phases[0][0], phases[-1][0]) == ("limits before", "limits after")


def test_the_first_round_is_not_timed(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([(1000.0, 1000.0)] * 2 + [(0.5, 2.0), (4.0, 1.0), (0.5, 2.0), (8.0, 1.0), (0.5, 8.0), (2.0, 4.0)])
    monkeypatch.setattr("edgekit.probe.bench.time_round", lambda engine, prompt, count: next(seconds))
    result = bench(artifact, prompt_tokens=(16,), gen_tokens=8, repeat=3, threads=1)
    assert [(p.ttft_s, p.ttft_s_min, p.ttft_s_max) for p in result.prefill] == [(4.0, 2.0, 8.0)]
    assert [(p.tok_s, p.tok_s_min, p.tok_s_max) for p in result.prefill] == [(4.0, 2.0, 8.0)]
    assert [(d.tok_s, d.tok_s_min, d.tok_s_max) for d in result.decode] == [(4.0, 1.0, 4.0), (8.0, 2.0, 8.0)]


def test_the_json_has_the_contracts_fields(artifact: Path) -> None:
    found = bench(artifact, prompt_tokens=(4,), gen_tokens=1, repeat=1, threads=1).to_json()
    contract = {"engine", "kernel", "load_s", "prefill", "decode", "peak_rss_bytes", "private_bytes"}
    assert contract <= found.keys()
    assert {"tokens", "tok_s", "ttft_s"} <= found["prefill"][0].keys()
    assert {"context", "tok_s"} <= found["decode"][0].keys()


@pytest.mark.parametrize(("engine", "item"), [("native", 2), ("ort", 4)])  # bytes of a number in the cache
def test_shares_follow_from_time_and_limits(
    built_artifact: Path, monkeypatch: pytest.MonkeyPatch, engine: str, item: int
) -> None:
    monkeypatch.setattr("edgekit.probe.bench.time_round", lambda engine, prompt, count: (0.5, 0.25))
    # 64 positions in all: the native cache has whole blocks of them.
    result = bench(built_artifact, engine=engine, prompt_tokens=(60,), gen_tokens=4, repeat=1, threads=1)
    assert (result.limits, result.shares_unknown) == (LIMITS, None)
    work = shares.model_work(built_artifact, [60])
    assert result.prefill[0].share_of_peak == pytest.approx(work.prompt_multiply_adds[60] / (0.5 * 0.01e9))
    cache = 2 * 2 * 48 * item  # two layers, key and value, one head of 48
    shares_of_bandwidth = [d.share_of_bandwidth for d in result.decode]
    expected = [(work.token_bytes + positions * cache) * 16 / 0.001e9 for positions in (2.5, 62.5)]
    assert shares_of_bandwidth == pytest.approx(expected)


def test_a_float_artifact_has_no_percentages(artifact: Path) -> None:
    found = bench(artifact, prompt_tokens=(4,), gen_tokens=1, repeat=1, threads=1).to_json()
    assert found["limits"] == {"bandwidth_gb_s": 0.001, "kernel_gmac_s": 0.01, "kernel": "scalar", "threads": 1}
    assert found["prefill"][0]["share_of_peak"] is None
    assert found["decode"][0]["share_of_bandwidth"] is None
    assert "the work of a token" in found["shares_unknown"]


def test_a_round_evaluates_the_prompt_and_the_tokens_after_it(artifact: Path) -> None:
    with load(artifact, threads=1) as session:
        session.engine.evaluate([1, 2, 3])
        prefill_s, decode_s = time_round(session.engine, [5, 6], 4)
        assert session.engine.position == 6
        assert prefill_s > 0
        assert decode_s > 0


@pytest.mark.parametrize("arguments", [{"prompt_tokens": (0,)}, {"gen_tokens": 0}, {"repeat": 0}])
def test_counts_below_one_are_refused(artifact: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} is 0"):
        bench(artifact, **arguments)


def test_links_that_lead_out_are_refused(artifact: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(artifact, tmp_path / "copy")
    (copy / "link").symlink_to("/etc/hostname")
    with pytest.raises(VerificationError, match="link is a link to /etc/hostname, which is outside the folder"):
        bench(copy)


def test_a_prompt_beyond_the_model_names_both_lengths(artifact: Path) -> None:
    with pytest.raises(ContextLengthError, match=rf"{CONTEXT_LENGTH + 1} .* {CONTEXT_LENGTH}"):
        bench(artifact, prompt_tokens=(CONTEXT_LENGTH,), gen_tokens=1)
