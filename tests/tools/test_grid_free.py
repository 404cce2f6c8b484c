"""The grid-free model (``tools/quality/grid_free.py``) computes the same function as its source model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grid_free import write_grid_free
from tiny_checkpoint import write_checkpoint

from edgekit.checkpoint import open_checkpoint
from edgekit.models import spec_from_config
from edgekit.streaming.float_model import FloatModel
from edgekit.weights.checkpoint import CheckpointWeights


def logits(folder: Path) -> np.ndarray:
    with open_checkpoint(folder) as opened:
        spec = spec_from_config(opened.config)
        model = FloatModel(CheckpointWeights(opened, spec), spec, 64, 1)
        feed = model.feed([3, 1, 4, 1, 5, 9, 2, 6])
        return model.graph.run([feed], {"logits_start": np.zeros(1, np.int64)})[0]["logits"]


@pytest.mark.parametrize("keep_hidden", [False, True])
@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("qwen2", False)])
def test_it_is_the_same_function_of_other_weights(tmp_path: Path, family: str, tied: bool, keep_hidden: bool) -> None:
    plain = write_checkpoint(tmp_path / "plain", family, tie_word_embeddings=tied)
    write_grid_free(plain, tmp_path / "grid-free", keep_hidden)
    expected = logits(plain)
    np.testing.assert_allclose(logits(tmp_path / "grid-free"), expected, atol=1e-4 * np.abs(expected).max())
