"""The cost of int8 keys and values (``tools/kv_cost.py``)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from shared_models import SharedModels

ROOT = Path(__file__).parents[2]


def test_it_measures_three_texts(models: SharedModels) -> None:
    artifact = models.artifact("qwen2", "int4 block 32")
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "kv_cost.py", artifact, "--tokens", "70"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    costs = re.findall(r": int8 (\S+), order (\S+)", done.stdout)
    assert len(costs) == 3
    assert all(0 < float(int8) < 1 and 0 <= float(order) < 1 for int8, order in costs)
