"""The check of a GPU (``tools/gpu_check``): packed, and run with the engines of the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools" / "gpu_check"


@pytest.mark.slow
def test_it_is_packed_without_weights_and_reports_each_engine(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    packed, report = tmp_path / "packed", tmp_path / "report.json"
    carry = [sys.executable, FOLDER / "carry.py", packed, "--no-wheels"]
    subprocess.run(carry, check=True, env=environment, timeout=60)
    assert sum(path.stat().st_size for path in packed.rglob("*") if path.is_file()) < 2_000_000
    command = ["bash", packed / "check.sh", "--only", "smollm2-135m-float32", "--engines", "native,cuda,nonsense"]
    done = subprocess.run(
        [*command, "--tokens", "4", "--out", report],
        capture_output=True, text=True, env={**environment, "PYTHON": sys.executable}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reference, native, cuda, nonsense = json.loads(report.read_text())["results"]
    for found in (reference, native):
        assert len(found["tokens"]) == 4
        assert found["decode_tok_s"] > 0
    assert native["placement"][0].startswith("fast ")
    assert 0 <= native["same_as_reference"] <= 4
    assert "there is no engine 'nonsense'" in nonsense["error"]
    assert "error" in cuda or cuda["proof"]
    assert "of 4 tokens as the reference; open" in done.stdout
    weights = np.fromfile(packed / "models" / "smollm2-135m-float32" / "model.onnx.data", np.uint8, 4096)
    assert weights.std() > 1
