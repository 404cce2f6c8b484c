"""The memory of a build does not grow with the number of layers, so that models of any depth can be built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_checkpoint import write_checkpoint

pytestmark = pytest.mark.slow

SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
LAYER_BYTES = 4 * 256 * (3 * 1024 + 2 * 256 + 2 * 128)  # of a layer's matrices in float32
FEW, MANY = 2, 34  # all of the larger model's layers together are 126 MB


def peak(folder: Path, family: str, layers: int) -> int:
    """The peak memory of a process that builds a model: it scales, quantizes, and records the golden test."""
    checkpoint = write_checkpoint(folder / f"{layers}-layers", family, **SHAPE, num_hidden_layers=layers)
    command = ["build", "--checkpoint", checkpoint, "--device", "cpu", "--out", folder / f"{layers}-out", "--no-gate"]
    done = subprocess.run(
        [sys.executable, "-m", "edgekit.cli", *map(str, command), "--threads", "1", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: int = json.loads(done.stdout)["peak_rss_bytes"]
    return found


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_deep_model_takes_as_much_memory_as_a_shallow_one(tmp_path: Path, family: str) -> None:
    assert peak(tmp_path, family, MANY) - peak(tmp_path, family, FEW) < (MANY - FEW) * LAYER_BYTES / 5
