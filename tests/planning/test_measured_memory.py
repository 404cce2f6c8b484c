"""The planned memory compared with the memory of a process that runs the artifact.

Both engines are tested with tiny models, one of which has a large separate embedding table, and with SmolLM2. The
process fills the context and reports the system's counts (proc(5), ``smaps_rollup`` and ``smaps``), which do not depend
on other processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shared_models import SharedModels

from edgekit.build.inputs import recipe_from_checkpoint
from edgekit.checkpoint import open_checkpoint
from edgekit.devices import load_device
from edgekit.planning.draft import draft, with_artifact
from edgekit.planning.plan import PlanOptions
from edgekit.recipes import Recipe, load_recipe

# Tolerances for weights and KV cache together, and for the whole process.
EXACT, WHOLE = 0.03, 0.10
# A tiny model needs little memory compared with the interpreter, whose own size varies by this much.
TINY_WHOLE = 0.15

PROGRAM = """
import json, random, re, sys
from pathlib import Path
from edgekit.runtime.loading import load
folder, engine, context, kv_type = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] or None
def kib(text, key):
    return sum(int(found) for found in re.findall(rf"^{key}:\\s+(\\d+) kB$", text, re.MULTILINE)) * 1024
session = load(folder, engine=engine, context=context, kv_type=kv_type, threads=2)
session.tokenizer.encode("hello")
loaded = kib(Path("/proc/self/status").read_text(), "VmHWM")
vocab = session.engine.vocab_size
ids = random.Random(0).choices(range(vocab), k=context)
before = kib(Path("/proc/self/smaps_rollup").read_text(), "Anonymous")
session.engine.evaluate(ids[: context // 2])
session.engine.evaluate(ids[context // 2 : -1])
session.engine.evaluate(ids[-1:])
maps = Path("/proc/self/smaps").read_text()
parts = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", maps)
data = [part for part in parts if "model.onnx.data" in part.split("\\n")[0]]
print(json.dumps({
    "mapped": sum(kib(part, "Rss") for part in data),
    "cache": session.engine.cache_bytes,
    "grown": kib(Path("/proc/self/smaps_rollup").read_text(), "Anonymous") - before,
    "peak": kib(Path("/proc/self/status").read_text(), "VmHWM"),
    "loaded": loaded,
}))
"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")


def _recipe(checkpoint: Path) -> Recipe:
    with open_checkpoint(checkpoint) as opened:
        return recipe_from_checkpoint(opened, checkpoint)


def _forget(file: Path) -> None:
    """Let the system drop a file that was just written from its cache; see ``unread_bytes``."""
    opened = os.open(file, os.O_RDONLY)
    os.fsync(opened)
    os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(opened)


def _measure(folder: Path, engine: str, context: int, kv_type: str | None) -> dict[str, int]:
    _forget(folder / "model.onnx.data")
    command = [sys.executable, "-c", PROGRAM, str(folder), engine, str(context), kv_type or ""]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def _plan(recipe: Recipe, folder: Path, engine: str, context: int, kv_type: str | None) -> Any:
    planned = draft(recipe, load_device("cpu"), context, recipe.quantization, PlanOptions(engine, kv_type))
    sizes = ((folder / name).stat().st_size for name in ("model.onnx.data", "tokenizer.json"))
    return with_artifact(planned, *sizes).memory


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "context", "kv_type"),
    [("native", 512, None), ("native", 2048, None), ("native", 2048, "int8"), ("ort", 512, None), ("ort", 2048, None)],
)
def test_smollm2(models: SharedModels, engine: str, context: int, kv_type: str | None) -> None:
    smollm2 = models.smollm2()
    planned = _plan(load_recipe("smollm2-135m"), smollm2, engine, context, kv_type)
    found = _measure(smollm2, engine, context, kv_type)
    if engine == "native":
        exact = found["mapped"] + found["cache"]
        assert planned.weights + planned.kv_cache == pytest.approx(exact, rel=EXACT)
    else:
        assert planned.kv_cache == pytest.approx(found["cache"], rel=EXACT)
    assert planned.peak == pytest.approx(found["peak"], rel=WHOLE)
    assert found["loaded"] <= planned.load_peak * (1 + WHOLE)


@pytest.mark.parametrize("engine", ["native", "ort"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_tiny_models(models: SharedModels, family: str, engine: str) -> None:
    folder = models.artifact(family, "int8 head")
    recipe = _recipe(models.checkpoint(family))
    planned = _plan(recipe, folder, engine, 512, None)
    found = _measure(folder, engine, 512, None)
    padding = 64 * planned.kv_cache // 512  # native's last block
    assert abs(planned.kv_cache - found["cache"]) <= padding
    assert planned.peak == pytest.approx(found["peak"], rel=TINY_WHOLE)


@pytest.mark.slow
@pytest.mark.parametrize("context", [64, 512])
def test_rows_that_are_not_looked_up_stay_out_of_memory(models: SharedModels, context: int) -> None:
    """The tables of an untied model are two thirds of this file; R1-Distill-Qwen-1.5B's are an eighth."""
    sizes = {"vocab_size": 60_000, "hidden_size": 256, "max_position_embeddings": 60_000}
    folder = models.artifact("qwen2", "int4 block 128", **sizes)
    planned = _plan(_recipe(models.checkpoint("qwen2", **sizes)), folder, "native", context, None)
    assert planned.unread_embedding + planned.unread_rotary > 0.25 * planned.file_bytes
    found = _measure(folder, "native", context, None)
    exact = found["mapped"] + found["cache"]
    assert planned.weights + planned.kv_cache == pytest.approx(exact, rel=EXACT)
    assert planned.peak == pytest.approx(found["peak"], rel=TINY_WHOLE)
