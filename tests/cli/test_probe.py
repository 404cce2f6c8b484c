"""``edgekit probe``: a table for people, and a profile for ``--device``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from invoke import Invoke

from edgekit.devices import DeviceProfile, Sourced, load_device
from edgekit.devices.profile import EngineRates
from edgekit.probe import engines as engine_rates
from edgekit.probe import kernels
from edgekit.probe import machine as probe
from edgekit.probe.kernels import KernelChoice
from edgekit.runtime.proof.verdict import Subject, Verdict
from edgekit.runtime.provider import Setup

pytestmark = pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="describing the host needs Linux")


@pytest.fixture(autouse=True)
def _known_rates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(probe, "physical_cores", lambda: 2)
    decode = KernelChoice("avx2", ("avx512vnni", "avx2", "scalar"), {"avx512vnni": 44.81, "avx2": 51.3})
    chosen = {"decode": decode, "prefill": KernelChoice("scalar", ("scalar",), {})}
    monkeypatch.setattr(probe, "chosen_kernels", lambda: chosen)
    monkeypatch.setattr(kernels, "chosen_kernels", lambda: chosen)
    monkeypatch.setattr(probe, "measure_bandwidth", lambda threads: threads * 8e9)
    monkeypatch.setattr(probe, "measure_kernel", lambda name, threads: threads * 1.5e9)


def test_the_table_has_both_limits_and_how_to_keep_them(invoke: Invoke) -> None:
    outcome = invoke("probe", "--limits-only")
    assert outcome.exit_code == 0
    rows = [" ".join(line.split()) for line in outcome.text.splitlines()]
    assert "memory reads, GB/s 8 16" in rows
    assert "scalar, 10^9 multiply-adds/s 1.5 3" in rows
    assert "edgekit probe --out NAME.toml" in outcome.text
    assert "Storage is not measured" in outcome.text
    assert "decode avx2 avx512vnni 44.81, avx2 51.3" in rows
    assert "prefill scalar not measured" in rows
    assert outcome.stderr == "measuring ...\n"


def test_a_written_profile_is_a_device(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    found = invoke("probe", "--out", path, "--json", "--limits-only").json()
    profile = load_device(path)
    chosen = {
        "decode": {"kernel": "avx2", "gmac_s": {"avx512vnni": 44.81, "avx2": 51.3}},
        "prefill": {"kernel": "scalar", "gmac_s": {}},
    }
    assert found == {**profile.to_json(), "chosen_kernels": chosen, "proofs": [], "out": str(path)}
    assert profile.name == "board"
    for command in (("devices", path), ("plan", "smollm2-135m", "--device", path)):
        assert invoke(*command).exit_code == 0
    shown = invoke("devices", path).text
    for text in ("bandwidth.sustained", "16 GB/s", "cpu.kernels[scalar].one_core_gmac_s", "1.5 Gmac/s"):
        assert text in shown


def test_engines_are_measured_and_shown(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(profile: DeviceProfile, progress: object) -> DeviceProfile:
        figures = (("native", 9.5), ("ort", 7.25))
        rates = tuple(EngineRates(name, *(Sourced(value, "measured") for _ in range(6))) for name, value in figures)
        return replace(profile, cpu=replace(profile.cpu, engines=rates))

    monkeypatch.setattr(engine_rates, "with_engine_rates", measured)
    path = tmp_path / "my board.toml"
    outcome = invoke("probe", "--out", path)
    assert f"written to {path}; use it with --device '{path}'" in outcome.text
    assert f"Use it: edgekit plan --device '{path}'" in path.read_text()
    rows = [" ".join(line.split()) for line in outcome.text.splitlines()]
    assert "engine speed native ort" in rows
    assert "decode, GB/s of weights 9.5 7.25" in rows
    shown = invoke("devices", path).text
    assert "cpu.engines[ort].weights_gb_s" in shown
    assert "7.25 GB/s" in shown
    assert "cpu.engines[native].layer_us" in shown
    assert "9.5 µs" in shown


def test_json_is_one_object_and_nothing_else(invoke: Invoke) -> None:
    outcome = invoke("probe", "--json", "--limits-only")
    found = outcome.json()
    assert found["out"] is None
    assert found["bandwidth"]["sustained"]["value"] == 16
    assert found["bandwidth"]["one_core"]["source"].startswith("edgekit probe: 1 thread")
    assert outcome.stderr == ""


@pytest.mark.parametrize(
    ("name", "words"), [("board", "does not end in .toml"), ("none/board.toml", "no folder"), ("old.toml", "exists")]
)
def test_files_that_cannot_be_are_told_before_anything_is_measured(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setattr(probe, "measure_bandwidth", lambda threads: pytest.fail("measured"))
    (tmp_path / "old.toml").write_text("mine", encoding="utf-8")
    outcome = invoke("probe", "--out", tmp_path / name)
    assert outcome.exit_code == 2
    assert words in " ".join(outcome.stderr.split())
    assert (tmp_path / "old.toml").read_text(encoding="utf-8") == "mine"


WITHOUT = """
import runpy, sys
sys.modules[sys.argv.pop()] = None
from edgekit.probe import machine
machine.measure_bandwidth = lambda threads: sys.exit("measured")
runpy.run_module("edgekit", run_name="__main__")
"""


@pytest.mark.parametrize("package", ["onnxruntime", "ml_dtypes"])
def test_missing_packages_are_told_before_anything_is_measured(package: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, "probe", package], capture_output=True, text=True)
    assert done.returncode == 3
    said = " ".join(done.stderr.split())
    assert f"measuring the engines needs {package}" in said
    assert "edgekit-llm[build]" in said
    assert "--limits-only" in said


def test_proofs_of_gpus_are_shown(invoke: Invoke) -> None:
    subject = Subject("webgpu", "Some GPU", "1.2.3", "onnxruntime 1.32.0", "ab" * 32)
    Verdict(subject, "tiny", False, Setup(31), "x is wrong", ("x is wrong",), 3, 12, 1e-6, None, None, 2.5).keep()
    text = " ".join(invoke("probe", "--limits-only").text.split())
    assert "Some GPU, driver 1.2.3 webgpu tiny FAILED: x is wrong" in text
    (found,) = invoke("probe", "--limits-only", "--json").json()["proofs"]
    assert (found["passed"], found["subject"]["adapter"], found["setup"]["prefill_chunk"]) == (False, "Some GPU", 31)
