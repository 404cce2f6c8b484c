"""The native engine compared with onnxruntime on the same artifacts, with every instruction set of this machine."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_engine
import pytest
from open_engine import engine, order_tolerance, prompt
from shared_models import FORMATS, SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import ArtifactError, EngineError, EvaluationCancelledError
from edgekit.native import BLOCK
from edgekit.probe.limits import kernels
from edgekit.runtime.engine import EngineOptions, SpeculatingEngine
from edgekit.runtime.generation import Completion
from edgekit.runtime.loading import load
from edgekit.sampling import Sampling

pytestmark = pytest.mark.every_isa

# Both engines round activations to int8, each in blocks of its own and in its own order; relative to the largest logit.
INT8_TOLERANCE = 0.05


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("device", ["cpu", "jetson"])  # float32 and float16 scales, norms and tables
@pytest.mark.parametrize("name", FORMATS)
def test_it_agrees_with_onnxruntime(models: SharedModels, family: str, device: str, name: str) -> None:
    folder = models.artifact(family, name, device)
    ids = prompt(300)  # more than one chunk of prefill
    ours, theirs = (engine(folder, e, all_logits=True).evaluate(ids) for e in ("native", "ort"))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= INT8_TOLERANCE * np.abs(theirs).max()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9995


def test_a_model_wider_than_its_mlp(models: SharedModels) -> None:
    """The residual stream can be the widest row."""
    shape = {"hidden_size": 1024, "intermediate_size": 16, "num_attention_heads": 1, "head_dim": 16}
    folder = models.artifact("llama", **shape)
    ours, theirs = (engine(folder, e, all_logits=True).evaluate(prompt(200)) for e in ("native", "ort"))
    assert np.abs(ours - theirs).max() <= INT8_TOLERANCE * np.abs(theirs).max()


def test_all_instruction_sets_agree(models: SharedModels) -> None:
    folder = models.artifact("qwen2", "int8 head")
    script = (
        "import sys, json, numpy as np; from pathlib import Path\n"
        "from edgekit.runtime.native_engine import NativeEngine\n"
        "e = NativeEngine(Path(sys.argv[1]), 64, 2, True)\n"
        "print(json.dumps([e.kernel, e.evaluate(json.loads(sys.argv[2])).ravel().tolist()]))"
    )
    found = {}
    for isa in (name for name, runs in kernels().items() if runs):
        done = subprocess.run(
            [sys.executable, "-c", script, folder, json.dumps(prompt(20))],
            capture_output=True, text=True, env={**os.environ, "EDGEKIT_ISA": isa}, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        kernel, logits = json.loads(done.stdout)
        assert kernel == isa
        found[isa] = np.array(logits)
    assert "scalar" in found
    for isa, logits in found.items():
        np.testing.assert_allclose(logits, found["scalar"], atol=order_tolerance(isa) * np.abs(found["scalar"]).max())


def test_evaluating_tokens_one_by_one_or_together_gives_the_same(models: SharedModels) -> None:
    folder = models.artifact("llama", "int4 block 32")
    ids = prompt(40)
    whole = engine(folder, "native", all_logits=True).evaluate(ids)
    steps = engine(folder, "native")
    rows = [steps.evaluate(part) for part in (ids[:20], ids[20:24], *([i] for i in ids[24:]))]
    assert steps.position == 40
    expected = np.stack([whole[19], *whole[23:]])
    tolerance = order_tolerance(steps.kernel) * np.abs(whole).max()
    np.testing.assert_allclose(np.concatenate(rows), expected, atol=tolerance)


@pytest.mark.parametrize("kv_type", ["float16", "int8"])
def test_the_pieces_of_a_prompt_do_not_change_the_result(models: SharedModels, kv_type: str) -> None:
    """Their length is a multiple of 64 that depends on the speed of the machine.

    The portable kernels read 32 tokens at a time; the others read any 64 or more in the same way.
    """
    folder = models.artifact("llama", "int4 block 32", max_position_embeddings=1024)
    ids = prompt(512)

    def last(*cuts: int) -> bytes:
        steps = engine(folder, "native", context=512, kv_type=kv_type)
        for start, stop in itertools.pairwise((0, *cuts, len(ids))):
            found = steps.evaluate(ids[start:stop])
        return found[-1].tobytes()

    whole = last()
    for cuts in ((64,), (128, 192), (256,), (64, 128, 192, 320, 384), (192, 448)):
        assert last(*cuts) == whole, cuts
    if engine(folder, "native").kernel != "scalar":
        for cuts in ((257,), (100, 228), (64, 129), (97, 165, 230, 300, 369), (193, 386)):
            assert last(*cuts) == whole, cuts


def test_rewinding_forgets_later_tokens(models: SharedModels) -> None:
    e = engine(models.artifact("qwen2", "int4 block 128"), "native")
    e.evaluate(prompt(10))
    first = e.evaluate([5, 6, 7])
    e.rewind(10)
    e.evaluate([100, 101])
    e.rewind(10)
    np.testing.assert_array_equal(e.evaluate([5, 6, 7]), first)
    with pytest.raises(EngineError, match="cannot rewind"):
        e.rewind(14)


def test_pieces_of_several_sequences_are_computed_together(models: SharedModels) -> None:
    folder, ids = models.artifact("llama", "int4 block 32"), prompt(40)
    worker = engine(folder, "native")
    forks = [worker.fork(), worker.fork()]
    for fork in forks:
        fork.evaluate(ids[:20])
    rows = worker.step_pieces([worker, *forks], [ids[:4], ids[20:21], ids[20:26]])
    assert [each.position for each in (worker, *forks)] == [4, 21, 26]
    for row, length in zip(rows, (4, 21, 26), strict=True):
        expected = engine(folder, "native").evaluate(ids[:length])[0]
        np.testing.assert_allclose(row, expected, atol=order_tolerance(worker.kernel) * np.abs(expected).max())
    with pytest.raises(EngineError, match="16 in all"):
        worker.step_pieces([worker, *forks], [ids[:6]] * 3)
    with pytest.raises(EngineError, match="1 pieces for 2 sequences"):
        worker.step_pieces(forks, [[1]])
    with pytest.raises(EngineError, match="1 ids for 2 sequences"):
        worker.step(forks, [1])
    assert [each.position for each in (worker, *forks)] == [4, 21, 26]


@pytest.mark.parametrize("kv_type", ["float16", "int8"])
def test_blocks_of_one_sequence_continue_another(models: SharedModels, kv_type: str) -> None:
    ids = prompt(130)
    one = engine(models.artifact("llama", "int4 block 32"), "native", kv_type=kv_type)
    other = one.fork()
    one.evaluate(ids[:129])
    for block in range(2):
        other.append_block(ids[block * BLOCK : (block + 1) * BLOCK], one.get_block(block))
    assert (other.position, other.tokens()) == (128, ids[:128])
    one.rewind(128)
    for token in ids[128:]:  # one by one in both, for tokens that are evaluated together round differently
        np.testing.assert_array_equal(other.evaluate([token]), one.evaluate([token]))
    with pytest.raises(EngineError, match="it has 2 whole blocks"):
        one.get_block(2)
    with pytest.raises(EngineError, match="a block has 64 ids, not 3"):
        other.append_block([1, 2, 3], one.get_block(0))
    with pytest.raises(EngineError, match="behind 130 tokens; allowed: multiples of 64"):
        other.append_block(ids[:BLOCK], one.get_block(0))
    other.rewind(0)
    with pytest.raises(EngineError, match="bytes, not 3"):
        other.append_block(ids[:BLOCK], np.zeros(3, np.uint8))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_the_result(models: SharedModels, threads: int) -> None:
    folder = models.artifact("llama", "int8")
    one = engine(folder, "native", threads=1).evaluate(prompt(30))
    np.testing.assert_array_equal(engine(folder, "native", threads=threads).evaluate(prompt(30)), one)


def test_forcing_an_unavailable_instruction_set_is_an_error(
    models: SharedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_ISA", "neon9")
    with pytest.raises(EngineError, match=r"EDGEKIT_ISA is 'neon9', which cannot be used here; .*scalar"):
        engine(models.artifact("llama", "int8"), "native")


def test_threads_take_turns_and_closing_waits(models: SharedModels) -> None:
    """An engine that is closed while another thread uses it refuses the next call; it does not crash."""
    folder = models.artifact("llama", "int4 block 32")
    for _ in range(10):
        e = engine(folder, "native", context=600, threads=2)
        refused, finite = [], []

        def use(e: Any = e, refused: list[str] = refused, finite: list[bool] = finite) -> None:
            try:
                for i in range(100):
                    finite.append(bool(np.isfinite(e.evaluate([i % 50, 7, 8])).all()))
            except EngineError as error:
                refused.append(str(error))

        users = [threading.Thread(target=use) for _ in range(2)]
        for user in users:
            user.start()
        while not finite:
            time.sleep(0.001)
        e.close()
        for user in users:
            user.join()
        assert all(finite)
        assert refused.count("the engine is closed") + sum("context" in text for text in refused) <= 2


@pytest.mark.parametrize("name", ["native", "ort"])
def test_an_evaluation_is_cancelled_from_another_thread(models: SharedModels, name: str) -> None:
    """It changes nothing, and later evaluations are not cancelled."""
    e = engine(models.artifact("llama", "int4 block 32"), name, context=600, threads=2)
    e.cancel()
    expected = e.evaluate([1, 2, 3])
    ended = threading.Event()

    def cancel() -> None:
        while not ended.is_set():
            e.cancel()
            time.sleep(0.0005)

    other = threading.Thread(target=cancel)
    other.start()
    try:
        while True:
            e.rewind(3)
            try:
                e.evaluate([5] * 500)
            except EvaluationCancelledError:
                break
    finally:
        ended.set()
        other.join()
    assert e.position == 3
    e.rewind(0)
    np.testing.assert_array_equal(e.evaluate([1, 2, 3]), expected)
    e.close()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_engines_of_one_artifact_share_its_mapping_and_threads(models: SharedModels, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models.artifact("llama", "int4 block 32"), tmp_path / "copy"))
    data = str((folder / "model.onnx.data").resolve())

    def counts() -> tuple[int, int]:
        mapped = sum(line.rstrip().endswith(data) for line in Path("/proc/self/maps").read_text().splitlines())
        return mapped, len(os.listdir("/proc/self/task"))

    engines = [engine(folder, "native", context=16, threads=50)]
    mapped, threads = counts()
    engines += [engine(folder, "native", context=16, threads=50) for _ in range(3)]
    assert mapped == counts()[0] == 1
    assert counts()[1] < threads + 49, "the threads of another test may start or end meanwhile"
    for e in engines:
        e.close()


def test_a_data_file_that_is_cut_is_an_error(models: SharedModels, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models.artifact("llama", "int4 block 32"), tmp_path / "copy"))
    e = engine(folder, "native", context=16)
    e.evaluate([1, 2, 3])
    os.truncate(folder / "model.onnx.data", 1000)
    with pytest.raises(EngineError, match=r"model\.onnx\.data: it was cut from \d+ to 1000 bytes while it was open"):
        e.evaluate([4])
    assert e.position == 3
    e.close()


@pytest.mark.parametrize("kv_type", ["float16", "int8"])
def test_guessed_tokens_have_the_same_logits(models: SharedModels, kv_type: str) -> None:
    folder = models.artifact("llama", "int4 block 32")
    plain = engine(folder, "native", context=64, threads=2, kv_type=kv_type)
    guessing = engine(folder, "native", context=64, threads=2, kv_type=kv_type, speculate=True)
    with closing(plain), closing(guessing):
        assert isinstance(guessing, SpeculatingEngine)
        ids = list(range(20, 40))
        assert np.array_equal(plain.evaluate(ids), guessing.evaluate(ids))
        for token in [*ids[:15], 7, 8, *ids]:
            assert np.array_equal(plain.evaluate([token]), guessing.evaluate([token]))
            assert plain.position == guessing.position
        assert plain.accepted() == 0
        assert guessing.accepted() > 0


def test_speculation_does_not_change_answers(models: SharedModels) -> None:
    folder = models.artifact("llama", "int4 block 32")
    found: dict[bool, list[Completion]] = {}
    for speculate in (True, False):
        with load(folder, "native", threads=1, speculate=speculate) as session:
            found[speculate] = [
                session.generate(list(range(50, 90)) * 3, max_tokens=60, sampling=sampling, seed=3).complete()
                for sampling in (Sampling(temperature=0), Sampling(temperature=0.8))
            ]
    assert [each.tokens for each in found[True]] == [each.tokens for each in found[False]]
    assert all(each.accepted_tokens == 0 for each in found[False])


def test_the_planned_type_of_keys_and_values_is_taken(models: SharedModels) -> None:
    folder = models.artifact("llama", "int4 block 32")
    facts = read_manifest(folder)

    def kv_type(asked: str | None = None, **plan: str) -> str:
        planned = replace(facts, plan=facts.plan | plan)
        with closing(open_engine.open_engine(folder, planned, EngineOptions(context=8, kv_type=asked), "native")) as e:
            return e.kv_type

    assert kv_type(engine="native", kv_type="int8") == "int8"
    assert kv_type("float16", engine="native", kv_type="int8") == "float16"
    assert kv_type(engine="webgpu", kv_type="int8") == "float16", "the plan is for another engine"
    with pytest.raises(ArtifactError, match=r"plan.kv_type of the manifest is 'int4'; allowed: float16, int8"):
        kv_type(engine="native", kv_type="int4")
