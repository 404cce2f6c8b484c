"""A rotated model computes the same function; its tensors can be read in pieces and from several threads."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint

from edgekit.checkpoint import open_checkpoint
from edgekit.models import spec_from_config
from edgekit.models.spec import ModelSpec, TensorRef
from edgekit.scheme import QuantizationScheme
from edgekit.streaming.float_model import FloatModel
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.weights.rotated import RotatedWeights
from edgekit.weights.source import WeightSource

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
MODELS = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
    ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}),
    ("qwen2", {}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen3", {}),
]


def logits(source: WeightSource, spec: ModelSpec) -> np.ndarray:
    model = FloatModel(source, spec, 64, 1)
    return model.graph.run([model.feed(IDS)], {"logits_start": np.zeros(1, np.int64)})[0]["logits"]


@pytest.mark.parametrize(("family", "changes"), MODELS)
def test_the_function_is_the_same(tmp_path: Path, family: str, changes: dict) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "plain", family, **changes)) as opened:
        spec = spec_from_config(opened.config)
        plain = CheckpointWeights(opened, spec)
        rotated = RotatedWeights(plain, spec)
        expected = logits(plain, spec)
        np.testing.assert_allclose(logits(rotated, rotated.spec), expected, atol=1e-5 * np.abs(expected).max())


def test_the_basis_is_another(tmp_path: Path) -> None:
    """After rotation no weight has an outlier feature like those of large models, and all norms are 1."""
    with open_checkpoint(write_checkpoint(tmp_path / "plain", "qwen2")) as opened:
        spec = spec_from_config(opened.config)
        plain = CheckpointWeights(opened, spec)
        rotated = RotatedWeights(plain, spec)
        layer = spec.layers[1]
        assert (rotated.rows(layer.input_norm, 0, 144) == 1).all()
        assert (rotated.rows(rotated.spec.final_norm, 3, 20) == 1).all()
        for ref in (spec.embedding, layer.o_proj.weight, layer.down_proj.weight, layer.v_proj.weight):
            before, after = (s.rows(ref, 0, ref.shape[0]) for s in (plain, rotated))
            assert not np.allclose(before, after, atol=0.1)
            if ref != layer.v_proj.weight:  # whose norm's weights are in it
                assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=1e-5)
        assert rotated.packed(layer.q_proj.weight, 0, 1, QuantizationScheme()) is None


def test_a_tied_table_becomes_two(tmp_path: Path) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "plain", "llama")) as opened:
        spec = spec_from_config(opened.config)
        rotated = RotatedWeights(CheckpointWeights(opened, spec), spec)
        head = rotated.spec.lm_head.weight
        assert spec.tied_embeddings
        assert not rotated.spec.tied_embeddings
        assert rotated.spec.parameters == spec.parameters, "the table's weights are counted once"
        assert not np.allclose(rotated.rows(head, 0, 9), rotated.rows(spec.embedding, 0, 9))


def test_rows_are_the_same_however_they_are_read(tmp_path: Path) -> None:
    """Read some rows from several threads, of tensors in which each row depends on all others."""
    changes = {"attention_bias": True, "mlp_bias": True}
    with open_checkpoint(write_checkpoint(tmp_path / "plain", "llama", **changes)) as opened:
        spec = spec_from_config(opened.config)
        rotated = RotatedWeights(CheckpointWeights(opened, spec), spec)
        refs = list(rotated.spec.tensors())
        whole = {ref: rotated.rows(ref, 0, ref.shape[0]) for ref in refs}
        pieces = [(ref, start, min(start + 37, ref.shape[0])) for start in range(0, 320, 37) for ref in refs]
        pieces = [(ref, start, stop) for ref, start, stop in pieces if start < stop]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda piece: rotated.rows(*piece), pieces))
        for (ref, start, stop), rows in zip(pieces, found, strict=True):
            np.testing.assert_allclose(rows, whole[ref][start:stop], atol=1e-5, err_msg=ref.name)


class CountingWeights(CheckpointWeights):
    """Counts how often each tensor's first row is read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reads: Counter[TensorRef] = Counter()

    def rows(self, ref: TensorRef, start: int, stop: int) -> Any:
        self.reads[ref] += start == 0
        return super().rows(ref, start, stop)


def test_a_matrix_is_cached_until_it_is_read_whole_or_released(tmp_path: Path) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "plain", "qwen2")) as opened:
        spec = spec_from_config(opened.config)
        source = CountingWeights(opened, spec)
        rotated = RotatedWeights(source, spec)
        down = spec.layers[0].down_proj.weight
        for start in (0, 9, 18):
            rotated.rows(down, start, start + 9)
        assert source.reads[down] == 1
        rotated.rows(down, 0, down.shape[0])
        assert source.reads[down] == 1
        rotated.rows(down, 0, 9)
        assert source.reads[down] == 2
        rotated.release()
        rotated.rows(down, 0, 9)
        assert source.reads[down] == 3


def test_what_is_read_can_be_changed(tmp_path: Path) -> None:
    with open_checkpoint(write_checkpoint(tmp_path / "plain", "qwen2")) as opened:
        spec = spec_from_config(opened.config)
        rotated = RotatedWeights(CheckpointWeights(opened, spec), spec)
        for ref in rotated.spec.tensors():
            first = rotated.rows(ref, 0, 9)
            expected = first.copy()
            first[...] = 0
            np.testing.assert_array_equal(rotated.rows(ref, 0, 9), expected, err_msg=ref.name)
