"""Hardware limits are measured and only checked for plausibility; the work of a token is exact."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build
from edgekit.errors import ProbeError, UnknownNameError
from edgekit.layout import DataLayout, Matrix, plan_layout
from edgekit.models import spec_from_config
from edgekit.planning.work import work_of
from edgekit.probe import limits
from edgekit.probe.limits import Limits, kernels, measure_bandwidth, measure_kernel, measure_limits, model_work
from edgekit.scheme import QuantizationConfig, QuantizationScheme

MIB = 1024 * 1024


def test_the_portable_kernel_runs_everywhere_and_comes_last() -> None:
    found = kernels()
    assert list(found)[-1] == "scalar"
    assert found["scalar"] is True
    assert len(found) == len(set(found))


def test_rates_are_rates() -> None:
    for rate in (measure_bandwidth(1, MIB), measure_bandwidth(2, MIB), measure_kernel("scalar", 2)):
        assert math.isfinite(rate)
        assert rate > 0


def test_the_limits_are_those_of_the_kernel_that_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "measure_bandwidth", lambda threads: 2.5e10)
    monkeypatch.setattr(limits, "measure_kernel", lambda name, threads: 4e9)
    monkeypatch.setenv("EDGEKIT_ISA", "scalar")
    assert measure_limits(2) == Limits(25.0, 4.0, "scalar", 2)
    monkeypatch.setenv("EDGEKIT_ISA", "abacus")
    with pytest.raises(ProbeError, match="EDGEKIT_ISA is 'abacus'"):
        measure_limits(2)


def test_the_better_of_two_is_the_better_of_each_rate() -> None:
    first, second = Limits(20.0, 5.0, "avx2", 2), Limits(10.0, 6.0, "avx2", 2)
    assert first.better(second) == second.better(first) == Limits(20.0, 6.0, "avx2", 2)
    assert first.better(None) is first


@pytest.mark.parametrize("threads", [0, -1, 10000])
def test_numbers_of_threads_that_cannot_be(threads: int) -> None:
    with pytest.raises(ProbeError, match=f"{threads} threads were"):
        measure_bandwidth(threads, MIB)
    with pytest.raises(ProbeError, match=f"{threads} threads were"):
        measure_kernel("scalar", threads)


def test_buffers_that_cannot_be() -> None:
    with pytest.raises(ProbeError, match=r"memory bandwidth: .*4095 bytes; needed: 4096 bytes for each of 1 threads"):
        measure_bandwidth(1, 4095)
    with pytest.raises(ProbeError, match=rf"the buffer needs {2**60} bytes"):
        measure_bandwidth(1, 2**60)


def test_an_unknown_kernel_names_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"no kernel 'avx3'; this build has .*scalar"):
        measure_kernel("avx3", 1)


def test_a_kernel_that_cannot_run_here_is_refused() -> None:
    for name, runs in kernels().items():
        if not runs:
            with pytest.raises(ProbeError, match=f"does not support the kernel '{name}'"):
                measure_kernel(name, 1)


@pytest.mark.parametrize(("family", "device"), [("llama", "cpu"), ("qwen2", "jetson")])  # float32; float16 and biases
def test_the_work_is_that_of_the_layout(tmp_path: Path, family: str, device: str) -> None:
    artifact = build(None, device, checkpoint=write_checkpoint(tmp_path / "tiny", family), out=tmp_path / "a").artifact
    manifest = read_manifest(artifact)
    parts = ("linear", "embedding", "lm_head")
    config = QuantizationConfig(*(QuantizationScheme(**manifest.quantization[part]) for part in parts))
    spec = spec_from_config(json.loads((artifact / "config.json").read_text()))
    layout = plan_layout(spec, config, manifest.activation_type, int(manifest.model["context_length"]))
    found = model_work(artifact, [1, 10])
    assert found.token_bytes == _token_bytes(layout)
    each = [[_weights(m) for m in (y.qkv_proj, y.o_proj, y.gate_up_proj, y.down_proj)] for y in layout.layers]
    whole = sum(map(sum, each)) + _weights(layout.lm_head)
    assert found.prompt_multiply_adds == {1: whole, 10: whole + 9 * (sum(map(sum, each)) - sum(each[-1][2:]))}
    planned = work_of(spec, layout, config)
    assert {n: planned.multiply_adds(n) for n in (1, 10)} == found.prompt_multiply_adds
    assert planned.token_bytes == pytest.approx(found.token_bytes, rel=0.01), "which keeps norms and biases in float32"


def _token_bytes(layout: DataLayout) -> int:
    """Biases and norms are float32 once loaded."""
    vectors = sum(4 * math.prod(v.slot.shape) for v in layout.vectors())
    matrices = [m for y in layout.layers for m in (y.qkv_proj, y.o_proj, y.gate_up_proj, y.down_proj)]
    read = sum(_stored(m) + (4 * m.out_features if m.bias else 0) for m in (*matrices, layout.lm_head))
    return vectors + read + _stored(layout.embedding) // layout.embedding.out_features


def _stored(matrix: Matrix) -> int:
    return sum(slot.size_bytes for slot in matrix.slots if slot is not matrix.bias)


def _weights(matrix: Matrix) -> int:
    return matrix.out_features * matrix.in_features


def test_the_name_of_an_artifact_may_be_any_bytes(built_artifact: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.symlink_to(built_artifact)
    assert model_work(folder, [2]) == model_work(built_artifact, [2])


def test_the_work_of_a_float_artifact_is_unknown(artifact: Path, tmp_path: Path) -> None:
    for folder in (artifact, tmp_path):
        with pytest.raises(ProbeError, match="the work of a token"):
            model_work(folder, [1])


def test_another_cpp_library_can_be_loaded_after_ours() -> None:
    """The native library contains its own libstdc++. When its symbols were visible, importing onnxruntime crashed."""
    program = "from edgekit.host import physical_cores; physical_cores(); import onnxruntime"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
