"""The engines run the artifacts that ``edgekit.build.pipeline`` writes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from shared_models import SharedModels

from edgekit.runtime.engine import EngineOptions, open_engine
from edgekit.runtime.loading import load
from edgekit.sampling import Sampling

pytestmark = pytest.mark.every_isa


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("device", ["cpu", "jetson"])  # float32 and float16 graphs
@pytest.mark.parametrize("engine", ["native", "ort"])  # those of the processor
def test_a_built_artifact_runs_and_passes_its_smoke_test(
    models: SharedModels, family: str, device: str, engine: str
) -> None:
    artifact = models.artifact(family, None, device)
    # A process of its own: the peak memory it checks must not be that of the tests before it.
    command = [sys.executable, "-m", "edgekit.cli", "smoke", str(artifact), "--engine", engine, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    with load(artifact, engine=engine, threads=1) as session:
        golden = session.manifest.golden
        assert golden is not None
        count = len(golden["continuation_ids"])
        found = session.generate(golden["prompt_ids"], max_tokens=count, sampling=Sampling(temperature=0))
        tokens = found.complete().tokens
        # Exact for the operators that recorded it; elsewhere a near tie may fall the other way, which smoke allows for.
        assert len(tokens) == count
        assert engine != "ort" or tokens == golden["continuation_ids"]
        assert session.generate("Hello", max_tokens=5).complete().tokens
        prompt = session.tokenizer.encode("What is the capital of Italy?")
        last = session.engine.evaluate(prompt[: session.engine.context - session.engine.position])
    every = open_engine(artifact, session.manifest, EngineOptions(threads=1, all_logits=True), engine)
    assert last.shape == (1, every.vocab_size)
    assert every.evaluate(prompt).shape == (len(prompt), every.vocab_size)
    every.close()
