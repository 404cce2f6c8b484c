"""A session goes on with the processor after its GPU has failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import AcceleratorError
from edgekit.runtime.engine import EngineOptions, open_engine
from edgekit.runtime.loading import load
from edgekit.runtime.ort_engine import OrtEngine
from edgekit.runtime.recovery import RecoveringEngine, recovering
from edgekit.sampling import Sampling

GREEDY = Sampling(temperature=0)
OPTIONS = EngineOptions(context=128, threads=1)


class FailingGpu(OrtEngine):
    """A GPU that is lost after some evaluations."""

    left = 10

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self.left -= 1
        if self.left < 0:
            raise AcceleratorError("Some GPU: the device is lost")
        return super().evaluate(ids)


def failing(folder: Path, left: int) -> FailingGpu:
    engine = FailingGpu.open(folder, read_manifest(folder), OPTIONS)
    engine.on_processor, engine.name, engine.left = False, "gpu", left
    return engine


def test_a_session_goes_on_with_the_processor_and_gives_the_same_tokens(
    built_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = [failing(built_artifact, 4)]
    monkeypatch.setattr("edgekit.runtime.loading.open_engine", lambda *arguments: opened.pop())
    prompt = list(range(5, 25))
    with load(built_artifact, threads=1, context=128) as session:
        assert session.engine.name == "gpu"
        answer, pieces = session.generate(prompt, max_tokens=12, sampling=GREEDY), []
        with pytest.raises(AcceleratorError, match="the device is lost; the answer ends here") as caught:
            pieces += list(answer)
        assert caught.value.hint == "ask again: the session goes on with the engine native"
        assert (session.engine.name, session.engine.on_processor) == ("native", True)
        after = session.generate(prompt, max_tokens=12, sampling=GREEDY).complete().tokens
    monkeypatch.undo()
    with load(built_artifact, engine="native", threads=1, context=128) as session:
        assert session.generate(prompt, max_tokens=12, sampling=GREEDY).complete().tokens == after


def test_what_the_sequence_holds_is_evaluated_again(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    engine = RecoveringEngine(failing(artifact, 1), lambda: open_engine(artifact, manifest, OPTIONS, "ort"))
    engine.evaluate([5, 6, 7, 8])
    with pytest.raises(AcceleratorError):
        engine.evaluate([9])
    assert engine.position == 4
    engine.rewind(3)
    reference = open_engine(artifact, manifest, OPTIONS, "ort")
    np.testing.assert_allclose(engine.evaluate([9]), reference.evaluate([5, 6, 7, 9]), atol=1e-4)
    assert engine.position == engine.current.position == 4
    assert (engine.vocab_size, engine.context) == (reference.vocab_size, reference.context)
    assert (engine.kv_type, engine.threads, engine.cache_bytes) == ("float32", 1, reference.cache_bytes)
    assert engine.kernel == reference.kernel
    engine.cancel()
    engine.close()
    reference.close()


def test_only_an_engine_on_a_gpu_needs_it(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    engine = open_engine(artifact, manifest, OPTIONS, "ort")
    assert recovering(engine, artifact, manifest, OPTIONS) is engine
    engine.on_processor = False
    assert isinstance(recovering(engine, artifact, manifest, OPTIONS), RecoveringEngine)
    engine.close()
