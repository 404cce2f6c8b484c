"""The engine and KV cache type that a command uses; it imports only the packages that it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from invoke import Invoke
from tiny_artifact import write_tiny_artifact
from tiny_checkpoint import write_checkpoint

from edgekit.build.pipeline import build
from edgekit.probe import shares
from edgekit.probe.limits import Limits

LIMITS = Limits(bandwidth_gb_s=10.0, kernel_gmac_s=20.0, kernel="scalar", threads=1)
QUICK = ("--prompt-tokens", "4", "--gen-tokens", 2, "--repeat", 1, "--threads", 1)
RUN = ("--prompt", "Rome", "--max-tokens", 3, "--threads", 1, "--json")


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized")
    return build(None, "cpu", checkpoint=write_checkpoint(folder / "tiny"), out=folder / "artifact").artifact


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Invoke:
    monkeypatch.setattr(shares, "measure_limits", lambda threads: LIMITS)
    return Invoke(monkeypatch, capfdbinary)


def test_the_json_names_the_engine(invoke: Invoke, quantized: Path, tmp_path: Path) -> None:
    for artifact, options, expected in (
        (quantized, (), ("native", "float16")),
        (quantized, ("--kv-type", "int8"), ("native", "int8")),
        (quantized, ("--engine", "ort"), ("ort", "float32")),
        (write_tiny_artifact(tmp_path / "float"), (), ("ort", "float32")),
    ):
        for command in (("run", artifact, *RUN), ("bench", artifact, *QUICK, "--json")):
            found = invoke(*command, *options).json()
            assert (found["engine"], found["kv_type"]) == expected, command
            assert found["kernel"]


def test_the_table_names_the_engine(invoke: Invoke, quantized: Path) -> None:
    outcome = invoke("bench", quantized, *QUICK, "--kv-type", "int8")
    assert "native (" in outcome.text
    assert "1 thread, int8 cache" in outcome.text


def test_a_type_that_cannot_be_is_refused(invoke: Invoke, quantized: Path) -> None:
    outcome = invoke("run", quantized, *RUN, "--kv-type", "int8", "--engine", "ort")
    assert outcome.exit_code == 70
    assert "not in int8" in outcome.json()["error"]["message"]
    assert "native" in outcome.json()["error"]["hint"]
    for command in ("run", "bench"):
        outcome = invoke(command, quantized, "--kv-type", "int4")
        assert outcome.exit_code == 2
        assert "int8" in outcome.stderr


@pytest.mark.parametrize("command", ["run", "bench", "smoke"])
@pytest.mark.parametrize(("threads", "code"), [(0, 2), (-1, 2)])
def test_numbers_of_threads_that_cannot_be(
    invoke: Invoke, quantized: Path, command: str, threads: int, code: int
) -> None:
    outcome = invoke(command, quantized, "--threads", threads)
    assert outcome.exit_code == code
    assert "--threads" in outcome.stderr


def test_far_too_many_threads_are_an_error(invoke: Invoke, quantized: Path) -> None:
    outcome = invoke("run", quantized, "--engine", "native", "--prompt", "x", "--threads", 10000, "--json")
    assert outcome.exit_code == 70
    assert "10000 threads" in outcome.json()["error"]["message"]


def test_a_quantized_artifact_runs_without_onnxruntime(quantized: Path) -> None:
    """Importing onnxruntime takes longer than starting the native engine."""
    program = (
        "import sys\nfrom edgekit.cli import main\n"
        f"sys.argv = ['edgekit', 'run', {str(quantized)!r}, '--prompt', 'Rome', '--max-tokens', '3', '--json']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer, imported = done.stdout.strip().splitlines()
    assert '"engine": "native"' in answer
    found = set(imported.split())
    assert {"edgekit", "numpy", "tokenizers"} <= found
    assert not found & {"onnxruntime", "onnx", "gguf", "huggingface_hub", "safetensors", "ml_dtypes", "torch"}
