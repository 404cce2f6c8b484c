from __future__ import annotations

from pathlib import Path

import pytest
from invoke import Invoke
from tiny_checkpoint import write_checkpoint

from edgekit.build.pipeline import build
from edgekit.probe import shares
from edgekit.probe.limits import Limits

LIMITS = Limits(bandwidth_gb_s=10.0, kernel_gmac_s=20.0, kernel="scalar", threads=1)
QUICK = ("--prompt-tokens", "4, 16", "--gen-tokens", 2, "--repeat", 1, "--threads", 1)


@pytest.fixture
def artifact(tiny_artifact: Path) -> Path:
    return tiny_artifact


@pytest.fixture(autouse=True)
def _known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "measure_limits", lambda threads: LIMITS)


def test_the_json_has_the_contracts_fields(invoke: Invoke, artifact: Path) -> None:
    found = invoke("bench", artifact, *QUICK, "--json").json()
    contract = {"engine", "kernel", "load_s", "prefill", "decode", "peak_rss_bytes", "private_bytes"}
    assert contract <= found.keys()
    assert [entry["tokens"] for entry in found["prefill"]] == [4, 16]
    assert [entry["context"] for entry in found["decode"]] == [0, 4, 16]


def test_the_table_has_a_row_per_measurement(invoke: Invoke, artifact: Path) -> None:
    outcome = invoke("bench", artifact, *QUICK)
    assert outcome.exit_code == 0
    for text in (
        "tiny: ort (onnxruntime",
        "prefill 4",
        "prefill 16",
        "decode 2 at context 0",
        "decode 2 at context 16",
        "peak memory",
    ):
        assert text in outcome.text
    assert "median of 1 rounds" in outcome.text


def test_the_table_shows_the_percentage_of_the_hardware_limits(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    quantized = build(None, "cpu", checkpoint=write_checkpoint(tmp_path / "tiny", "llama"), out=tmp_path / "a").artifact
    outcome = invoke("bench", quantized, *QUICK)
    assert outcome.exit_code == 0
    limits = "1 thread: memory 10.0 GB/s (decode), scalar 20.0 x 10^9 multiply-adds/s (prefill)"
    for text in ("of the limit", "%", limits):
        assert text in outcome.text
    assert "unknown" not in outcome.text
    outcome = invoke("bench", artifact, *QUICK)  # floats, for which nobody has counted
    for text in ("unknown", limits, "share of the limits unknown: measuring the work of a token"):
        assert text in outcome.text


@pytest.mark.parametrize("lengths", ["", "0", "12,x", "-3", "1,,2", "9" * 5000])
def test_invalid_lengths_are_refused(invoke: Invoke, artifact: Path, lengths: str) -> None:
    outcome = invoke("bench", artifact, "--prompt-tokens", lengths)
    assert outcome.exit_code == 2
    assert "positive whole numbers" in outcome.stderr


def test_lengths_beyond_the_model_have_their_exit_code(invoke: Invoke, artifact: Path) -> None:
    assert invoke("bench", artifact, "--prompt-tokens", "100000").exit_code == 71
