"""A receipt that came home gets what only the plan and the profile know."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundles import PLAN, quantized_artifact
from receipts import receipt
from tiny_artifact import rewrite_manifest

from edgekit.artifact.manifest import Manifest, read_manifest
from edgekit.deploy.comparison import Row, compare_with_plan, complete_receipt
from edgekit.deploy.receipt import Check, Predicted
from edgekit.devices import load_device

JETSON = load_device("jetson")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return read_manifest(quantized_artifact(tmp_path / "tiny"))


def test_missing_checks_and_contradictions_are_added(manifest: Manifest) -> None:
    written = receipt(device=None, checks=(Check("files", "pass", ""), Check("sustained", "warn", "said there")))
    found = complete_receipt(written, manifest, JETSON)
    assert found.device == JETSON.name
    assert [(check.name, check.verdict) for check in found.checks] == [
        ("files", "pass"), ("sustained", "warn"), ("device_memory", "pass"), ("decode", "pass"),
    ]  # fmt: skip
    assert found.predicted == Predicted(JETSON.name, 20.0, 28.0, 40.0)
    assert found.as_predicted is True
    assert found.contradictions == ()


def test_more_memory_than_the_device_has_fails(manifest: Manifest) -> None:
    found = complete_receipt(receipt(peak_rss_bytes=6_000_000_000), manifest, JETSON)
    assert [check.name for check in found.checks if not check.passed] == ["device_memory"]


def test_a_device_without_its_desktop_has_more_memory(tmp_path: Path) -> None:
    assert JETSON.memory.usable_headless is not None
    artifact = quantized_artifact(tmp_path / "tiny")
    peak = JETSON.memory.usable_headless.value - 1
    for headless, passed in ((True, True), (False, False)):
        rewrite_manifest(artifact, plan={**PLAN, "headless": headless})
        found = complete_receipt(receipt(peak_rss_bytes=peak), read_manifest(artifact), JETSON)
        assert [check.passed for check in found.checks if check.name == "device_memory"] == [passed]


def test_the_cache_that_is_not_in_use_yet_counts(tmp_path: Path) -> None:
    memory = {"kv_cache": 4_000_000_000}
    own = {"engine": "native", "kv_type": "float16", "memory_bytes": memory, "decode_tok_s": PLAN["decode_tok_s"]}
    rewrite_manifest(quantized_artifact(tmp_path / "tiny"), plan={**PLAN, "context": 4096, "engines": [own]})
    manifest = read_manifest(tmp_path / "tiny")
    found = complete_receipt(receipt(peak_rss_bytes=2_000_000_000), manifest, JETSON)
    (check,) = [check for check in found.checks if check.name == "device_memory"]
    assert not check.passed
    assert "GB (2.00 GB measured, 3.9" in check.detail


def test_another_engine_is_compared_with_its_own_plan(tmp_path: Path) -> None:
    slow, limit = {"low": 25.0, "mid": 30.0, "high": 35.0}, {"asked": True, "value": 1000.0, "verdict": "met"}
    fast = {"low": 500.0, "mid": 700.0, "high": 900.0}
    plan = {
        **PLAN, "engine": "webgpu", "decode_tok_s": fast, "budget": {"decode_tok_s": limit},
        "engines": [{"engine": "webgpu", "decode_tok_s": fast}, {"engine": "native", "decode_tok_s": slow}],
    }  # fmt: skip
    rewrite_manifest(quantized_artifact(tmp_path / "tiny"), plan=plan)
    manifest = read_manifest(tmp_path / "tiny")
    found = complete_receipt(receipt(checks=()), manifest, JETSON)
    assert found.predicted == Predicted(JETSON.name, 25.0, 30.0, 35.0)
    assert [check.verdict for check in found.checks if check.name == "decode"] == ["pass"]
    assert compare_with_plan(receipt(), manifest)[1].planned == "30.0 tok/s (25.0 tok/s to 35.0 tok/s)"


def test_a_plan_for_another_device_is_not_compared(manifest: Manifest) -> None:
    found = complete_receipt(receipt(checks=()), manifest, load_device("pi"))
    assert {"decode", "ttft"}.isdisjoint(check.name for check in found.checks)


def test_figures_stand_beside_those_of_the_plan(tmp_path: Path, manifest: Manifest) -> None:
    assert compare_with_plan(receipt(), manifest) == [
        Row("first token of 128 tokens", "", "1.5 s"),
        Row("decode", "28.0 tok/s (20.0 tok/s to 40.0 tok/s)", "30.0 tok/s"),
        Row("memory", "300 MB with a full context", "200 MB peak"),
        Row("load", "", "20 ms"),
    ]
    rewrite_manifest(tmp_path / "tiny", plan={**PLAN, "load_s": {"microSD": 1.2}})
    rows = compare_with_plan(receipt(load_s=None, prompt=None), read_manifest(tmp_path / "tiny"))
    assert rows[-1] == Row("load", "1.2 s from microSD", "")
