from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from invoke import Invoke
from tiny_artifact import rewrite_manifest, write_tiny_artifact


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_tiny_artifact(tmp_path / "tiny")


def test_a_pass_prints_every_check_and_the_figures(invoke: Invoke, artifact: Path) -> None:
    outcome = invoke("smoke", artifact, "--threads", 1)
    assert outcome.exit_code == 0
    assert outcome.text.count("pass ") == 5
    assert "first token" in outcome.text
    assert "FAIL" not in outcome.text


def test_a_failure_has_its_exit_code_a_receipt_and_an_error(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    (artifact / "tokenizer.json").write_bytes(b"{}")
    receipt = tmp_path / "receipt.json"
    outcome = invoke("smoke", artifact, "--json", "--out", receipt)
    assert outcome.exit_code == 62
    found = outcome.json()
    assert found["passed"] is False
    assert found["error"]["kind"] == "smoke_test"
    assert "tokenizer.json" in found["error"]["message"]
    assert json.loads(receipt.read_text()) == {key: value for key, value in found.items() if key != "error"}
    outcome = invoke("smoke", artifact)
    assert outcome.exit_code == 62
    assert re.search("FAIL +files", outcome.text)
    assert "tokenizer.json has 2 bytes" in outcome.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_results_are_shown_if_the_receipt_cannot_be_written(invoke: Invoke, artifact: Path) -> None:
    outcome = invoke("smoke", artifact, "--out", "/dev/full")
    assert outcome.exit_code == 60
    assert outcome.text.count("pass ") == 5
    assert "cannot write the receipt /dev/full: No space left on device" in " ".join(outcome.stderr.split())
    found = invoke("smoke", artifact, "--out", "/dev/full", "--json").json()
    assert (found["passed"], found["error"]["kind"]) == (True, "artifact")
    (artifact / "tokenizer.json").write_bytes(b"{}")
    outcome = invoke("smoke", artifact, "--out", "/dev/full", "--json")
    assert outcome.exit_code == 62
    error = outcome.json()["error"]
    assert (error["kind"], "cannot write the receipt" in error["hint"]) == ("smoke_test", True)


def test_a_plan_of_another_device_is_told(invoke: Invoke, artifact: Path) -> None:
    said = "the plan is for no device, not for raspberry-pi-5-8gb, so no times are compared with it"
    assert said in " ".join(invoke("smoke", artifact, "--device", "pi").stderr.split())
    assert "no times" not in invoke("smoke", artifact).stderr
    rewrite_manifest(artifact, plan={"device": "raspberry-pi-5-8gb"})
    assert "no times" not in invoke("smoke", artifact, "--device", "pi").stderr


def test_a_devices_memory_is_checked(invoke: Invoke, artifact: Path) -> None:
    found = invoke("smoke", artifact, "--device", "pi", "--json").json()
    assert "device_memory" in {check["name"] for check in found["checks"]}
    assert found["passed"] is True
    assert invoke("smoke", artifact, "--device", "pi", "--headless", "--json").json()["passed"] is True
    assert invoke("smoke", artifact, "--headless").exit_code == 2
    assert invoke("smoke", artifact, "--device", "pie").exit_code == 10
