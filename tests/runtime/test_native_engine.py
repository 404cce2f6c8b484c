"""The native engine against onnxruntime on the same artifacts, on every instruction set this machine has."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.builder import build
from edgekit.errors import ContextLengthError, EngineError, TokenRangeError
from edgekit.runtime.engine import EngineOptions, open_engine
from edgekit.runtime.native_engine import NativeEngine
from edgekit.scheme import QuantizationConfig, QuantizationScheme

# Both engines round activations to int8, each in blocks of its own and in its own order; relative to the largest logit.
INT8_TOLERANCE = 0.05
FORMATS = {
    "int4 block 32": QuantizationConfig(*[QuantizationScheme(4, 32, False)] * 3),
    "int4 block 128": QuantizationConfig(*[QuantizationScheme(4, 128, True)] * 3),
    "int8 head": QuantizationConfig(
        QuantizationScheme(4, 64, False), QuantizationScheme(4, 32, True), QuantizationScheme(8, 64, False)
    ),
    "int8": QuantizationConfig(*[QuantizationScheme(8, 32, True)] * 3),
}


def artifact(tmp_path: Path, family: str, name: str, device: str = "cpu") -> Path:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family, max_position_embeddings=700)
    return build(
        None, device, checkpoint=checkpoint, out=tmp_path / "out", quantization=lambda _: FORMATS[name]
    ).artifact


def engine(folder: Path, name: str, **options: object) -> NativeEngine:
    return open_engine(folder, read_manifest(folder), EngineOptions(**options), name)  # type: ignore[arg-type,return-value]


def prompt(count: int, vocab: int = 250) -> list[int]:
    return [int(i) for i in np.random.default_rng(3).integers(0, vocab, count)]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("device", ["cpu", "jetson"])  # float32 and float16 scales, norms and tables
@pytest.mark.parametrize("name", FORMATS)
def test_it_agrees_with_onnxruntime(tmp_path: Path, family: str, device: str, name: str) -> None:
    folder = artifact(tmp_path, family, name, device)
    ids = prompt(300)  # more than one chunk of prefill
    ours, theirs = (engine(folder, e, all_logits=True).evaluate(ids) for e in ("native", "ort"))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= INT8_TOLERANCE * np.abs(theirs).max()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9995


def test_a_model_wider_than_its_mlp(tmp_path: Path) -> None:
    """The residual stream may be the widest row of all."""
    checkpoint = write_checkpoint(
        tmp_path / "checkpoint", "llama", hidden_size=1024, intermediate_size=16, num_attention_heads=1, head_dim=16
    )
    folder = build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out").artifact
    ours, theirs = (engine(folder, e, all_logits=True).evaluate(prompt(200)) for e in ("native", "ort"))
    assert np.abs(ours - theirs).max() <= INT8_TOLERANCE * np.abs(theirs).max()


def test_every_instruction_set_gives_the_same(tmp_path: Path) -> None:
    folder = artifact(tmp_path, "qwen2", "int8 head")
    script = (
        "import sys, json, numpy as np; from pathlib import Path\n"
        "from edgekit.runtime.native_engine import NativeEngine\n"
        "e = NativeEngine(Path(sys.argv[1]), 64, 2, True)\n"
        "print(json.dumps([e.kernel, e.evaluate(json.loads(sys.argv[2])).ravel().tolist()]))"
    )
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    found = {}
    for isa, flag in (("scalar", ""), ("avx2", "avx2"), ("avx512vnni", "avx512_vnni")):
        if flag and flag not in flags:
            continue
        done = subprocess.run(
            [sys.executable, "-c", script, folder, json.dumps(prompt(20))],
            capture_output=True, text=True, env={**os.environ, "EDGEKIT_ISA": isa}, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        kernel, logits = json.loads(done.stdout)
        assert kernel == isa
        found[isa] = np.array(logits)
    for logits in found.values():
        # A sum in another order can move an activation across a rounding boundary: one step of 127.
        np.testing.assert_allclose(logits, found["scalar"], atol=0.02 * np.abs(found["scalar"]).max())


def test_one_by_one_is_all_at_once(tmp_path: Path) -> None:
    folder = artifact(tmp_path, "llama", "int4 block 32")
    ids = prompt(40)
    whole = engine(folder, "native", all_logits=True).evaluate(ids)
    steps = engine(folder, "native")
    rows = [steps.evaluate(part) for part in (ids[:20], ids[20:24], *([i] for i in ids[24:]))]
    assert steps.position == 40
    expected = np.stack([whole[19], *whole[23:]])
    np.testing.assert_allclose(np.concatenate(rows), expected, atol=0.02 * np.abs(whole).max())


def test_rewinding_forgets(tmp_path: Path) -> None:
    e = engine(artifact(tmp_path, "qwen2", "int4 block 128"), "native")
    e.evaluate(prompt(10))
    first = e.evaluate([5, 6, 7])
    e.rewind(10)
    e.evaluate([100, 101])
    e.rewind(10)
    np.testing.assert_array_equal(e.evaluate([5, 6, 7]), first)
    with pytest.raises(EngineError, match="cannot rewind"):
        e.rewind(14)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_the_result(tmp_path: Path, threads: int) -> None:
    folder = artifact(tmp_path, "llama", "int8")
    one = engine(folder, "native", threads=1).evaluate(prompt(30))
    np.testing.assert_array_equal(engine(folder, "native", threads=threads).evaluate(prompt(30)), one)


def test_bad_calls(tmp_path: Path) -> None:
    folder = artifact(tmp_path, "llama", "int4 block 32")
    with pytest.raises(ContextLengthError, match="701"):
        engine(folder, "native", context=701)
    with pytest.raises(EngineError, match="10000 threads were asked for; allowed: 0 to 1024"):
        engine(folder, "native", threads=10000)
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


def test_a_forced_instruction_set_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_ISA", "neon9")
    with pytest.raises(EngineError, match=r"EDGEKIT_ISA is 'neon9'; this build has .*scalar"):
        engine(artifact(tmp_path, "llama", "int8"), "native")


def test_a_float_artifact_is_for_the_other_engine(tmp_path: Path) -> None:
    folder = build(
        None, "cpu", checkpoint=write_checkpoint(tmp_path / "checkpoint", "llama"), out=tmp_path / "out",
        quantization=lambda _: QuantizationConfig.none(),
    ).artifact  # fmt: skip
    with pytest.raises(EngineError, match="not quantized"):
        engine(folder, "native")


def test_damaged_artifacts_are_errors(tmp_path: Path) -> None:
    folder = artifact(tmp_path, "llama", "int4 block 32")
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
    for change, words in (
        (("edgekit.num_layers", "3"), "lacks the tensor"),
        (("edgekit.head_dim", "x"), "head_dim is 'x'"),
    ):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        next(p for p in copy.metadata_props if p.key == change[0]).value = change[1]
        (folder / "model.onnx").write_bytes(copy.SerializeToString())
        with pytest.raises(EngineError, match=words):
            opened()
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError):
        opened()


def test_random_corruption_never_crashes(tmp_path: Path) -> None:
    """10,000 damaged artifacts give an error or a run; in a process of its own, where a crash is a failure here.

    Damage to weights is seen by no reader: scales become NaN or huge, and then the logits are what they are.
    """
    folder = artifact(tmp_path, "qwen2", "int8 head")
    script = """
import collections, random, sys
from pathlib import Path
import numpy as np
from edgekit.errors import EngineError
from edgekit.runtime.native_engine import NativeEngine
from edgekit.runtime.sampler import Sampler, SamplingConfig

folder, counts = Path(sys.argv[1]), collections.Counter()
files = {name: (folder / name).read_bytes() for name in ("model.onnx", "model.onnx.data")}
random.seed(1)

def attempt(kind):
    counts[kind] += 1
    try:
        engine = NativeEngine(folder, 8, 1, False)
        try:
            logits = engine.evaluate([1, 2, 3])[0]
            Sampler(SamplingConfig(), logits.size).sample(logits)
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
