"""onnxruntime-genai and optimum load edgekit's artifacts unchanged and generate the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import write_checkpoint

import edgekit
from edgekit.build.pipeline import build
from edgekit.sampling import Sampling

pytestmark = pytest.mark.slow

COUNT = 48


def ours(artifact: Path, ids: list[int]) -> list[int]:
    """Generate with edgekit's onnxruntime engine. It uses the same operators, so near ties are decided alike."""
    with edgekit.load(artifact, engine="ort") as session:
        return session.generate(ids, max_tokens=COUNT, sampling=Sampling(temperature=0)).complete().tokens


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("smollm2-135m", "cpu", out=tmp_path_factory.mktemp("smollm2") / "artifact").artifact


YARN = {
    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "attn_factor": 0.8782488562869419,
}  # fmt: skip
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"rope_scaling": YARN, "head_dim": 48}),  # of 3 heads and a hidden size of 144
    "tied qwen3": ("qwen3", {"tie_word_embeddings": True}),  # wider heads
}


@pytest.fixture(scope="session", params=TINY)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, changes = TINY[request.param]
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder / "checkpoint", family, **changes)
    return build(None, "cpu", checkpoint=folder / "checkpoint", out=folder / "artifact").artifact


@pytest.mark.parametrize("engine", ["genai", "optimum"])
def test_smollm2(smollm2: Path, greedy, engine: str) -> None:
    with edgekit.load(smollm2) as session:
        rendered = session.render([{"role": "user", "content": "Who wrote Hamlet, and when?"}])
        ids = session.tokenizer.encode(rendered)
    expected = ours(smollm2, ids)
    assert len(expected) > 8
    assert greedy(engine, smollm2, ids, COUNT)[: len(expected)] == expected


@pytest.mark.parametrize("engine", ["genai", "optimum"])
def test_tiny_models(tiny: Path, greedy, engine: str) -> None:
    ids = [0, 17, 200, 45, 99, 102]
    expected = ours(tiny, ids)
    assert len(set(expected)) > 3
    assert greedy(engine, tiny, ids, COUNT)[: len(expected)] == expected
