"""What the native engine refuses: invalid calls, too little memory, damaged files."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from open_engine import engine, prompt
from shared_models import FLOAT, SharedModels

from edgekit.errors import ContextLengthError, EngineError, TokenRangeError
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.native_engine import NativeEngine


def test_invalid_calls(models: SharedModels) -> None:
    folder = models.artifact("llama", "int4 block 32")
    with pytest.raises(ContextLengthError, match="701"):
        engine(folder, "native", context=701)
    with pytest.raises(EngineError, match="10000 threads were requested; allowed: 1 to 1024"):
        engine(folder, "native", threads=10000)
    with pytest.raises(EngineError, match=f"{2**32 + 1} threads were requested"):  # 1 in 32 bits
        engine(folder, "native", threads=2**32 + 1)
    e = engine(folder, "native", context=16)
    with pytest.raises(TokenRangeError, match="99999"):
        e.evaluate([99999])
    with pytest.raises(ContextLengthError, match="16"):
        e.evaluate(prompt(17))
    assert e.position == 0
    e.evaluate(prompt(16))
    e.close()
    e.close()
    with pytest.raises(EngineError, match="closed"):
        e.evaluate([1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_threads_for_which_there_are_no_processors_take_no_memory(models: SharedModels) -> None:
    """The stacks of 1000 threads do not fit into the address space that the process may use."""
    script = f"""
import resource
from edgekit.native import library
from edgekit.runtime.native_engine import NativeEngine
library()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
engine = NativeEngine({str(models.artifact("llama", "int4 block 32"))!r}, 16, 1000, False)
print(engine.threads, engine.evaluate([1, 2]).shape[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1000 1\n"


def test_invalid_numbers() -> None:
    for options in (
        {"threads": 0}, {"threads": -1}, {"context": 0}, {"kv_type": "float8"}, {"context": "x"}, {"threads": 1.5},
        {"context": True},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(options))):
            EngineOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", [[-1], [2**31], [-(2**40)], [5, 10**6]])
def test_ids_out_of_range_do_not_change_the_sequence(built_artifact: Path, ids: list[int]) -> None:
    e = engine(built_artifact, "native", context=16, threads=1)
    e.evaluate([5, 6])
    with pytest.raises(TokenRangeError, match=str(max(ids, key=abs))):
        e.evaluate(ids)
    assert e.tokens() == [5, 6]
    expected = engine(built_artifact, "native", context=16, threads=1)
    expected.evaluate([5, 6])
    np.testing.assert_array_equal(e.evaluate([7]), expected.evaluate([7]))


def test_a_cache_larger_than_the_memory_is_refused_before_it_is_allocated(models: SharedModels, tmp_path: Path) -> None:
    """The rotary tables are as long as the context; here they are holes in a sparse file that are never read."""
    positions, dim, kv_heads, layers = 2**24, 256, 16, 4
    built = models.artifact(
        "llama", "int8", hidden_size=32, num_attention_heads=kv_heads, num_key_value_heads=kv_heads,
        head_dim=dim, num_hidden_layers=layers, max_position_embeddings=64,
    )  # fmt: skip
    folder = shutil.copytree(built, tmp_path / "copy")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    next(p for p in model.metadata_props if p.key == "edgekit.context_length").value = str(positions)
    end = (folder / "model.onnx.data").stat().st_size
    for tensor in (t for t in model.graph.initializer if t.name.startswith("rotary.")):
        size = positions * dim // 2 * 4
        tensor.dims[0] = positions
        place = {"offset": str(-(-end // 4096) * 4096), "length": str(size)}
        end = int(place["offset"]) + size
        for entry in tensor.external_data:
            entry.value = place.get(entry.key, entry.value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    os.truncate(folder / "model.onnx.data", end)
    NativeEngine(folder, 64, 1, False).close()
    gigabytes = positions * layers * kv_heads * 2 * dim * 2 / 1e9
    with pytest.raises(
        EngineError, match=rf"cache of {positions} positions needs {gigabytes:.1f} GB of memory; .* are available"
    ):
        NativeEngine(folder, positions, 1, False)
    with pytest.raises(EngineError, match=rf"cache of {positions} positions needs .* are available"):
        NativeEngine(folder, positions, 1, False, "int8")
    (folder / "model.onnx.data").unlink()  # 17 GB to whatever copies or counts temporary files


def test_a_float_artifact_is_refused(models: SharedModels) -> None:
    folder = models.artifact("llama", FLOAT)
    with pytest.raises(EngineError, match="not quantized"):
        engine(folder, "native")


def test_damaged_artifacts_are_errors(models: SharedModels, tmp_path: Path) -> None:
    folder = shutil.copytree(models.artifact("llama", "int4 block 32"), tmp_path / "copy")
    whole = (folder / "model.onnx").read_bytes()

    def opened() -> None:
        NativeEngine(folder, 16, 1, False).close()

    opened()
    data = folder / "model.onnx.data"
    shutil.copy(data, tmp_path / "data")
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(EngineError, match=r"of model\.onnx\.data, which has"):
        opened()
    data.unlink()
    with pytest.raises(EngineError, match="cannot open"):
        opened()
    shutil.copy(tmp_path / "data", data)
    model = onnx.load_from_string(whole)
    for change, words in ((("edgekit.num_layers", "3"), "is missing"), (("edgekit.head_dim", "x"), "head_dim is 'x'")):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        next(p for p in copy.metadata_props if p.key == change[0]).value = change[1]
        (folder / "model.onnx").write_bytes(copy.SerializeToString())
        with pytest.raises(EngineError, match=words):
            opened()
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError):
        opened()


@pytest.mark.slow
def test_random_corruption_never_crashes(models: SharedModels, tmp_path: Path) -> None:
    """10,000 damaged artifacts either run or give an error; a crash of their separate process fails the test.

    Damage to weights cannot be detected: scales become NaN or huge, and the logits are then arbitrary.
    """
    folder = shutil.copytree(models.artifact("qwen2", "int8 head"), tmp_path / "copy")
    script = """
import collections, random, sys
from pathlib import Path
import numpy as np
from edgekit.errors import EngineError
from edgekit.runtime.native_engine import NativeEngine
from edgekit.runtime.sampler import Sampler
from edgekit.sampling import Sampling

folder, counts = Path(sys.argv[1]), collections.Counter()
files = {name: (folder / name).read_bytes() for name in ("model.onnx", "model.onnx.data")}
random.seed(1)

def attempt(kind):
    counts[kind] += 1
    try:
        engine = NativeEngine(folder, 8, 1, False)
        try:
            logits = engine.evaluate([1, 2, 3])[0]
            Sampler(Sampling(), logits.size).sample(logits)
        finally:
            engine.close()
    except EngineError:
        counts[kind + " error"] += 1

def damaged(whole):
    bad = bytearray(whole)
    for _ in range(random.randint(1, 8)):
        bad[random.randrange(len(bad))] = random.choice((0, 127, 128, 255, random.randrange(256)))
    return bad

for name, damages, cuts in (("model.onnx", 7500, 1000), ("model.onnx.data", 1200, 300)):
    whole = files[name]
    for _ in range(damages):
        (folder / name).write_bytes(damaged(whole))
        attempt(name + " damaged")
    for _ in range(cuts):
        (folder / name).write_bytes(whole[:random.randrange(len(whole))])
        attempt(name + " cut")
    (folder / name).write_bytes(whole)
attempt("whole")
whole = np.frombuffer(files["model.onnx.data"], np.uint8).copy()
whole[whole.size // 4 : whole.size // 2] = 255  # NaN in either type of float
(folder / "model.onnx.data").write_bytes(whole.tobytes())
attempt("nan")
print(dict(counts))
"""
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    counts = ast.literal_eval(done.stdout)
    assert sum(count for kind, count in counts.items() if not kind.endswith("error")) == 10_002
    assert 0 < counts["model.onnx damaged error"] < counts["model.onnx damaged"]
    assert counts["model.onnx cut error"] > 0  # a cut can only pass where it takes what is not read
    assert counts["model.onnx.data cut error"] == counts["model.onnx.data cut"]
    assert counts["model.onnx.data damaged error"] < counts["model.onnx.data damaged"]
    assert (counts.get("whole error"), counts["nan error"]) == (None, 1)
