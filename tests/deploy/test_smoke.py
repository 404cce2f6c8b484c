"""The smoke test: every check passes on a good artifact and fails on the damage that it is there to find."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pretended_gpu import pretended_gpu
from tiny_artifact import rewrite_manifest, write_tiny_artifact
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build
from edgekit.deploy.receipt import Receipt, read_receipt
from edgekit.deploy.smoke import smoke
from edgekit.devices import Sourced, load_device
from edgekit.devices.profile import Bytes, Memory
from edgekit.errors import ArtifactError, EngineProofNotice, UnknownNameError, UsageError
from edgekit.runtime.loading import load

SMALL = Sourced(Bytes(1000), source="this test")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_tiny_artifact(tmp_path / "tiny")


def names(receipt: Receipt) -> dict[str, bool]:
    return {check.name: check.passed for check in receipt.checks}


def detail(receipt: Receipt, name: str) -> str:
    return next(check.detail for check in receipt.checks if check.name == name)


def change_golden(folder: Path, **changes: Any) -> None:
    golden = read_manifest(folder).golden
    assert golden is not None
    rewrite_manifest(folder, golden={**golden, **changes})


def test_an_undamaged_artifact_passes(artifact: Path) -> None:
    receipt = smoke(artifact, threads=1)
    assert receipt.passed
    assert names(receipt) == {
        "files": True,
        "load": True,
        "golden_logits": True,
        "golden_tokens": True,
        "placement": True,
    }
    assert (receipt.artifact, receipt.engine) == ("tiny", "ort")
    for figure in (receipt.load_s, receipt.ttft_s, receipt.decode_tok_s, receipt.peak_rss_bytes):
        assert figure is not None
        assert figure > 0


def test_the_receipt_has_the_documented_fields(artifact: Path, tmp_path: Path) -> None:
    receipt = smoke(artifact, threads=1)
    receipt.write(tmp_path / "receipt.json")
    found = json.loads((tmp_path / "receipt.json").read_text())
    assert found == receipt.to_json()
    assert {"passed", "checks", "ttft_s", "decode_tok_s", "peak_rss_bytes", "load_s"} <= found.keys()
    assert all(check.keys() == {"name", "passed", "verdict", "detail"} for check in found["checks"])
    assert read_receipt(tmp_path / "receipt.json") == receipt
    assert receipt.manifest_sha256 == hashlib.sha256((artifact / "edgekit.json").read_bytes()).hexdigest()
    assert (receipt.program, receipt.device, receipt.prompt, receipt.contradictions) == ("edgekit", None, None, None)
    assert receipt.host.machine == platform.machine()


def test_damaged_files_end_the_test(artifact: Path) -> None:
    (artifact / "model.onnx").write_bytes(b"x")
    receipt = smoke(artifact, threads=1)
    assert names(receipt) == {"files": False}
    assert "model.onnx has 1 bytes" in receipt.checks[0].detail
    assert receipt.ttft_s is None


def test_a_graph_that_does_not_load_fails_the_load_check(artifact: Path) -> None:
    model = onnx.load(artifact / "model.onnx", load_external_data=False)
    model.graph.node[0].op_type = "Unknown"
    (artifact / "model.onnx").write_bytes(model.SerializeToString())
    rewrite_manifest(artifact)
    receipt = smoke(artifact, threads=1)
    assert names(receipt) == {"files": True, "load": False}
    assert "cannot load" in receipt.checks[1].detail


def test_a_prompt_that_the_engine_rejects_fails_the_load_check(artifact: Path) -> None:
    change_golden(artifact, prompt_ids=[10**6])
    receipt = smoke(artifact, threads=1)
    assert names(receipt) == {"files": True, "load": False}
    assert "1000000" in receipt.checks[1].detail


def test_other_weights_fail_the_golden_test(artifact: Path) -> None:
    data = artifact / "model.onnx.data"
    weights = np.frombuffer(data.read_bytes(), np.float32).copy()
    weights[: weights.size // 4] *= -1.0
    data.write_bytes(weights.tobytes())
    rewrite_manifest(artifact)
    receipt = smoke(artifact, threads=1)
    assert not receipt.passed
    assert names(receipt)["files"]
    assert not names(receipt)["golden_logits"]


@pytest.mark.parametrize("engine", ["native", "ort"])
@pytest.mark.parametrize("device", ["cpu", "jetson"])
def test_each_engine_gives_the_golden_answer_and_detects_other_weights(
    tmp_path: Path, engine: str, device: str
) -> None:
    folder = build(None, device, checkpoint=write_checkpoint(tmp_path / "tiny", "qwen2"), out=tmp_path / "a").artifact
    golden = ("files", "load", "golden_logits", "golden_tokens")
    receipt = smoke(folder, engine=engine, threads=1)
    assert receipt.engine == engine
    assert all(names(receipt)[name] for name in golden)
    data = folder / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[4096:8192] = bytes(255 - byte for byte in content[4096:8192])  # codes of the embedding
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    data.write_bytes(content)
    rewrite_manifest(folder)
    found = names(smoke(folder, engine=engine, threads=1))
    assert found["files"]
    assert not all(found[name] for name in golden)


def test_another_continuation_fails(artifact: Path) -> None:
    golden = read_manifest(artifact).golden
    assert golden is not None
    ids = [*golden["continuation_ids"]]
    ids[0] = golden["top_logits"][9]["id"]  # its logit is far below the largest
    change_golden(artifact, continuation_ids=ids)
    receipt = smoke(artifact, threads=1)
    assert not names(receipt)["golden_tokens"]
    assert names(receipt)["golden_logits"]


def test_the_planned_memory_is_a_limit(artifact: Path) -> None:
    rewrite_manifest(artifact, plan={"memory_bytes": {"total": 10**12}})
    assert names(smoke(artifact, threads=1))["memory"]
    rewrite_manifest(artifact, plan={"memory_bytes": {"total": 1000}})
    receipt = smoke(artifact, threads=1)
    assert not names(receipt)["memory"]
    assert "1.00 kB" in detail(receipt, "memory")


def test_memory_for_the_unused_context_is_counted(artifact: Path) -> None:
    short = smoke(artifact, threads=1).peak_rss_bytes
    assert short is not None
    # 640 positions of 2 layers, key and value, 1 head of 16 float32; the golden test uses 24 of them
    rewrite_manifest(artifact, plan={"memory_bytes": {"total": 1000}})
    found = detail(smoke(artifact, threads=1), "memory")
    assert "158 kB for the unused context" in found


def test_the_devices_memory_is_a_limit(artifact: Path) -> None:
    device = load_device("pi")
    assert names(smoke(artifact, threads=1, device=device))["device_memory"]
    small = dataclasses.replace(device, memory=Memory(total=SMALL, usable=SMALL))
    assert not names(smoke(artifact, threads=1, device=small))["device_memory"]


def test_the_device_may_boot_without_a_desktop(artifact: Path) -> None:
    pi = load_device("pi")
    small = dataclasses.replace(pi, memory=dataclasses.replace(pi.memory, usable=SMALL))
    assert not names(smoke(artifact, threads=1, device=small))["device_memory"]
    assert names(smoke(artifact, threads=1, device=small, headless=True))["device_memory"]
    with pytest.raises(UsageError, match="without a device"):
        smoke(artifact, threads=1, headless=True)


def test_times_are_compared_with_the_plan_of_this_device(artifact: Path) -> None:
    slow = {"low": 1e9, "mid": 2e9, "high": 3e9}
    plan = {"device": "cpu", "engine": "ort", "prompt_tokens": 32, "decode_tok_s": slow, "load_s": {"disk": 1e9}}
    budget = {"ttft_s": {"value": 1e-9, "asked": False}}
    rewrite_manifest(artifact, plan={**plan, "budget": budget})
    receipt = smoke(artifact, threads=1, device="cpu")
    verdicts = {check.name: check.verdict for check in receipt.checks[-4:-1]}
    assert verdicts == {"ttft": "warn", "decode": "warn", "load_time": "pass"}
    assert (receipt.verdict, receipt.passed, receipt.device) == ("warn", True, "cpu")
    assert receipt.prompt is not None
    assert receipt.prompt.tokens == 32
    assert receipt.contradictions is not None
    other = smoke(artifact, threads=1, device="pi")
    assert {"ttft", "decode", "load_time"}.isdisjoint(names(other))
    assert other.prompt is None


def test_decode_goes_on_for_a_while(artifact: Path) -> None:
    receipt = smoke(artifact, threads=1, sustain_s=0.1)
    assert receipt.checks[-1].name == "sustained"
    assert receipt.sustained is not None
    assert receipt.sustained.seconds >= 0.1
    with pytest.raises(UsageError, match="sustain is 0 s"):
        smoke(artifact, sustain_s=0)


def test_an_artifact_without_a_golden_test_is_an_error(artifact: Path) -> None:
    rewrite_manifest(artifact, golden=None)
    with pytest.raises(ArtifactError, match="no golden test"):
        smoke(artifact)
    manifest = json.loads((artifact / "edgekit.json").read_bytes())
    manifest["golden"] = {"prompt_ids": [1], "continuation_ids": []}
    (artifact / "edgekit.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match="golden lacks top_logits"):
        smoke(artifact)


def test_an_unknown_engine_is_an_error_and_not_a_failed_check(artifact: Path) -> None:
    with pytest.raises(UnknownNameError):
        smoke(artifact, engine="nativ")


def test_an_engine_on_a_gpu_shows_its_proof(
    built_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    engine = pretended_gpu()
    monkeypatch.setattr("edgekit.deploy.smoke.open_engine", lambda *arguments: engine.open(*arguments[:3]))
    monkeypatch.setattr("edgekit.deploy.smoke.slow_fallbacks", lambda *arguments: [])
    with pytest.warns(EngineProofNotice):
        first = smoke(built_artifact, threads=1)
    second = smoke(built_artifact, threads=1)
    for receipt, memory in ((first, "warn"), (second, None)):
        checks = {check.name: check for check in receipt.checks}
        assert checks["gpu_proof"].verdict == "pass"
        assert "Pretended GPU, driver 1.2.3: " in checks["gpu_proof"].detail
        assert memory is None or checks["memory"].verdict == memory


@pytest.mark.parametrize("engine", ["native", "ort"])
def test_the_golden_test_may_be_longer_than_the_planned_context(tmp_path: Path, engine: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny", "llama")
    folder = build(None, "cpu", checkpoint=checkpoint, context=4, gate=False, out=tmp_path / "a").artifact
    manifest = read_manifest(folder)
    assert manifest.golden is not None
    needed = len(manifest.golden["prompt_ids"]) + len(manifest.golden["continuation_ids"])
    assert needed > manifest.plan["context"] == 4
    receipt = smoke(folder, engine=engine, threads=1, sustain_s=0.01)
    assert names(receipt).items() >= {"load": True, "golden_logits": True, "golden_tokens": True}.items()
    assert receipt.context == needed
    with load(folder, engine=engine) as session:
        assert session.engine.context == 4


def test_a_golden_test_that_no_context_holds_fails_the_load_check(artifact: Path) -> None:
    change_golden(artifact, prompt_ids=[5] * 100_000)
    receipt = smoke(artifact, threads=1)
    assert names(receipt) == {"files": True, "load": False}
    assert "positions was requested; tiny holds at most" in receipt.checks[1].detail
