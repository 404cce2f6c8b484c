"""``edgekit bundle``: what it prints and writes, with a program that only writes a receipt and a stand-in adb."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from bundles import quantized_artifact, stand_in
from invoke import Invoke
from receipts import receipt

from edgekit.deploy import bundle
from edgekit.deploy.receipt import Check, Receipt, read_receipt

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    compiled(tmp_path, monkeypatch, receipt(artifact="tiny"))
    monkeypatch.chdir(tmp_path)
    return quantized_artifact(tmp_path / "tiny")


def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Receipt) -> None:
    machine = os.uname().machine
    native = stand_in(tmp_path / "native", machine=machine, written=written, code=0 if written.passed else 62)
    monkeypatch.setattr(bundle, "device_files", lambda device: native)


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{SUPPORT}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ADB_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("ADB_SERIAL", "R5CT")


def test_a_bundle_is_written_beside_the_artifact(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    outcome = invoke("bundle", artifact, "--device", "jetson")
    assert outcome.exit_code == 0
    assert "tiny-bundle: " in outcome.text
    assert (tmp_path / "tiny-bundle" / "SHA256SUMS").is_file()
    found = invoke("bundle", artifact, "--device", "jetson", "--out", "other", "--json").json()
    assert (found["bundle"], found["device"]) == ("other", "jetson-orin-nano")
    assert found["files"] == sum(path.is_file() for path in (tmp_path / "other").rglob("*"))


@pytest.mark.usefixtures("adb")
def test_a_push_stores_the_receipt_and_compares_it_with_the_plan(
    invoke: Invoke, artifact: Path, tmp_path: Path
) -> None:
    outcome = invoke("bundle", artifact, "--device", "jetson", "--push", "adb")
    assert outcome.exit_code == 0
    assert "verified in /data/local/tmp/edgekit/tiny-jetson-orin-nano" in outcome.text
    assert "planned for jetson-orin-nano" in outcome.text
    stored = read_receipt(tmp_path / "tiny-bundle-receipt-adb.json")
    assert stored.contradictions == ()
    found = invoke("bundle", artifact, "--device", "jetson", "--push", "adb:R5CT", "--json").json()
    assert found["sent"] == []
    assert found["receipt"] == json.loads((tmp_path / "tiny-bundle-receipt-adb-R5CT.json").read_text())
    assert {"figure": "decode", "planned": "28.0 tok/s (20.0 tok/s to 40.0 tok/s)", "measured": "30.0 tok/s"} in found[
        "comparison"
    ]


@pytest.mark.usefixtures("adb")
def test_a_failed_check_on_the_device_has_its_exit_code(
    invoke: Invoke, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(tmp_path, monkeypatch, receipt(checks=(Check("files", "fail", "model.onnx is missing"),)))
    outcome = invoke("bundle", artifact, "--device", "jetson", "--push", "adb", "--json")
    assert outcome.exit_code == 62
    assert "model.onnx is missing" in outcome.json()["error"]["message"]
    assert (tmp_path / "tiny-bundle-receipt-adb.json").is_file()
    assert invoke("bundle", artifact, "--device", "jetson", "--push", "adb").exit_code == 62


@pytest.mark.usefixtures("adb")
def test_a_transfer_that_is_cut_is_an_error(invoke: Invoke, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADB_CUT", "1")
    outcome = invoke("bundle", artifact, "--device", "jetson", "--push", "adb")
    assert outcome.exit_code == 92
    assert "did not arrive on adb as it was sent" in outcome.stderr
    monkeypatch.delenv("ADB_CUT")
    assert invoke("bundle", artifact, "--device", "jetson", "--push", "adb").exit_code == 0


def test_errors_have_their_exit_codes(invoke: Invoke, artifact: Path) -> None:
    assert invoke("bundle", artifact).exit_code == 2
    assert invoke("bundle", artifact, "--device", "jetson", "--sustain", "3").exit_code == 2
    assert invoke("bundle", artifact, "--device", "jetsn").exit_code == 10
    assert invoke("bundle", artifact, "--device", "jetson", "--push", "ftp://x/y").exit_code == 2
