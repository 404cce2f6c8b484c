"""Times against a plan: better passes, worse warns, and a missed budget of the user fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_artifact import write_tiny_artifact

from edgekit.artifact.manifest import read_manifest
from edgekit.deploy.receipt import Prompt, Sustained
from edgekit.deploy.speed_checks import (
    check_decode,
    check_load_time,
    check_sustained,
    check_ttft,
    measure_prompt,
    measure_sustained,
)
from edgekit.runtime.engine import Engine, EngineOptions
from edgekit.runtime.ort_engine import OrtEngine

PLAN = {"ttft_s": {"low": 1.0, "mid": 1.5, "high": 2.0}, "decode_tok_s": {"low": 20.0, "mid": 30.0, "high": 40.0}}


def budget(name: str, value: float, asked: bool) -> dict[str, Any]:
    return {"budget": {name: {"value": value, "asked": asked}}}


@pytest.mark.parametrize(
    ("ttft_s", "plan", "verdict"),
    [
        (0.5, PLAN, "pass"),
        (2.0, PLAN, "pass"),
        (2.1, PLAN, "warn"),
        (4.0, budget("ttft_s", 5.0, False), "pass"),
        (6.0, budget("ttft_s", 5.0, False), "warn"),
        (6.0, budget("ttft_s", 5.0, True), "fail"),
        (1.9, {**PLAN, **budget("ttft_s", 1.8, True)}, "fail"),
    ],
)
def test_the_first_token(ttft_s: float, plan: dict[str, Any], verdict: str) -> None:
    (check,) = check_ttft(Prompt(128, ttft_s), plan)
    assert (check.name, check.verdict) == ("ttft", verdict)
    assert "for 128 tokens" in check.detail


@pytest.mark.parametrize(
    ("tok_s", "plan", "verdict"),
    [
        (50.0, PLAN, "pass"),
        (20.0, PLAN, "pass"),
        (19.0, PLAN, "warn"),
        (4.0, budget("decode_tok_s", 5.0, False), "warn"),
        (4.0, budget("decode_tok_s", 5.0, True), "fail"),
    ],
)
def test_decode(tok_s: float, plan: dict[str, Any], verdict: str) -> None:
    (check,) = check_decode(tok_s, plan)
    assert (check.name, check.verdict) == ("decode", verdict)
    assert f"{tok_s:.1f} tok/s" in check.detail or f"{tok_s:.2f} tok/s" in check.detail


def test_a_plan_without_figures_is_not_compared() -> None:
    plan: dict[str, Any] = {"ttft_s": None, "decode_tok_s": None, "load_s": {}, "budget": {}}
    assert check_ttft(Prompt(128, 1.0), plan) == check_decode(1.0, plan) == check_load_time(1.0, plan) == []


def test_the_slowest_storage_is_the_limit_of_loading() -> None:
    plan = {"load_s": {"NVMe": 1.0, "microSD": 9.0}}
    assert [check.verdict for check in check_load_time(8.0, plan)] == ["pass"]
    assert [check.verdict for check in check_load_time(10.0, plan)] == ["warn"]
    assert "from microSD" in check_load_time(8.0, plan)[0].detail


def test_a_last_third_that_is_slower_warns() -> None:
    assert check_sustained(Sustained(60.0, 1000, 30.0, 27.0)).verdict == "pass"
    check = check_sustained(Sustained(60.0, 1000, 30.0, 15.0))
    assert check.verdict == "warn"
    assert "50% of 30.0 tok/s" in check.detail


def test_a_first_third_without_a_token_says_nothing_about_heat() -> None:
    check = check_sustained(Sustained(60.0, 1, 0.0, 0.05))
    assert (check.verdict, check.detail) == ("warn", "unknown: no token in the first third of 1 min 00 s")


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    folder = write_tiny_artifact(tmp_path / "tiny")
    return OrtEngine.open(folder, read_manifest(folder), EngineOptions(context=40, threads=1))


def test_a_prompt_has_the_plans_length_or_fills_the_context(engine: Engine) -> None:
    assert measure_prompt(engine, [0, 5, 6], 8).tokens == engine.position == 8
    assert measure_prompt(engine, [0, 5, 6], 128).tokens == engine.position == 40


def test_decode_goes_on_until_the_time_is_over(engine: Engine) -> None:
    found = measure_sustained(engine, [0, 5, 6], 0.2)
    assert found.seconds >= 0.2
    assert found.tokens > 37  # more than the context holds
    assert found.first_tok_s > 0
    assert found.last_tok_s > 0
