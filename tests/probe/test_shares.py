from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.errors import ProbeError
from edgekit.probe import shares
from edgekit.probe.limits import Limits, Work
from edgekit.probe.shares import Shares, find_shares, limits_before

LIMITS = Limits(bandwidth_gb_s=2.0, kernel_gmac_s=50.0, kernel="scalar", threads=1)
WORK = Work(token_bytes=600_000_000, prompt_multiply_adds={128: 10**10})


def _engine(kernel: str = "scalar", on_processor: bool = True) -> Any:
    return SimpleNamespace(kernel=kernel, on_processor=on_processor, threads=1, cache_bytes=4_000_000, context=40)


def _fails(*arguments: object) -> Any:
    raise ProbeError("measuring memory bandwidth: no memory")


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "measure_limits", lambda threads: LIMITS)
    monkeypatch.setattr(shares, "model_work", lambda folder, prompt_tokens: WORK)


def test_prefill_is_a_share_of_the_peak() -> None:
    assert Shares(LIMITS, WORK, 0, None).of_peak(128, 0.5) == pytest.approx(0.4)  # 10^10 in 0.5 s is 20 of 50 x 10^9


def test_decode_is_a_share_of_the_bandwidth_and_reads_the_cache() -> None:
    known = Shares(LIMITS, WORK, position_bytes=100_000, unknown=None)
    assert known.of_bandwidth(0, 1, 2.0) == pytest.approx(2 * 600_100_000 / 2e9)  # its own position
    # 100 positions, then 101, 102, 103: the mean of four tokens' caches is 102.5
    assert known.of_bandwidth(100, 4, 2.0) == pytest.approx(2 * (600_000_000 + 102.5 * 100_000) / 2e9)


def test_the_better_limits_count_and_a_position_is_a_part_of_the_cache() -> None:
    found = find_shares(Path("a"), _engine(), [128], Limits(3.0, 40.0, "scalar", 1))
    assert found == Shares(Limits(3.0, 50.0, "scalar", 1), WORK, 100_000, None)


def test_another_processors_work_is_no_share_of_this_one() -> None:
    found = find_shares(Path("a"), _engine("onnxruntime 1.22 CUDA", on_processor=False), [128], None)
    assert (found.limits, found.work) == (LIMITS, None)
    assert "onnxruntime 1.22 CUDA does not run on it" in (found.unknown or "")
    assert found.of_peak(128, 1.0) is found.of_bandwidth(0, 1, 1.0) is None
    assert find_shares(Path("a"), _engine("onnxruntime 1.22 CPU"), [128], None).work == WORK


def test_what_cannot_be_measured_is_unknown_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "measure_limits", _fails)
    assert limits_before(1) is None
    found = find_shares(Path("a"), _engine(), [128], None)
    assert found == Shares(None, None, 100_000, "measuring memory bandwidth: no memory")
    assert found.of_peak(128, 1.0) is found.of_bandwidth(0, 1, 1.0) is None


def test_a_model_without_known_work_has_limits_but_no_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "model_work", _fails)
    found = find_shares(Path("a"), _engine(), [128], None)
    assert found == Shares(LIMITS, None, 100_000, "measuring memory bandwidth: no memory")


def test_nothing_is_measured_before_where_the_peak_would_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "reset_peak", lambda: False)
    monkeypatch.setattr(shares, "measure_limits", lambda threads: pytest.fail("measured"))
    assert limits_before(1) is None
