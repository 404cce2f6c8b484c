"""The loss of a single matrix equals that of a build in which only this matrix is quantized."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.build.pipeline import build
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CalibrationError, NonFiniteWeightError
from edgekit.models import ModelSpec, spec_from_config
from edgekit.planning.widths import EMBEDDING, LM_HEAD
from edgekit.quality import sensitivity
from edgekit.quality.compare import Passage, compare
from edgekit.quality.sensitivity import LEAST_TOKENS, MOST_TOKENS, measure_losses, sample_tokens
from edgekit.recipes import load_recipe
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.weights.source import WeightSource

FOUR = QuantizationScheme(4, 32, True)
ALL = QuantizationConfig(FOUR, FOUR, FOUR)
TEXTS = [np.random.default_rng(5).integers(2, 250, n).tolist() for n in (50, 30)]


@contextmanager
def opened(path: Path) -> Iterator[tuple[WeightSource, ModelSpec]]:
    with open_checkpoint(path) as checkpoint:
        spec = spec_from_config(checkpoint.config)
        yield CheckpointWeights(checkpoint, spec), spec


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("group_bytes", [1, 1 << 30])
def test_each_loss_is_that_of_a_build_with_one_matrix_rounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, group_bytes: int
) -> None:
    monkeypatch.setattr(sensitivity, "_GROUP_BYTES", group_bytes)
    folder = write_checkpoint(tmp_path / "checkpoint", family)
    done: list[float] = []
    with opened(folder) as (source, spec):
        losses = measure_losses(source, spec, ALL, "float32", TEXTS, 1, lambda n, total: done.append(n / total))
        assert done == sorted(done)
        assert done[-1] == 1
        assert len(losses) == 2 + 4 * spec.num_layers
        none = QuantizationConfig.none()
        alone = {
            EMBEDDING: replace(none, embedding=FOUR),
            LM_HEAD: replace(none, lm_head=FOUR),
            "model.layers.0.attn.qkv_proj": None,
            "model.layers.1.mlp.down_proj": None,
        }
        for number, (name, config) in enumerate(alone.items()):
            found = config or replace(none, matrices={name: FOUR})
            result = build(
                None,
                "cpu",
                checkpoint=folder,
                out=tmp_path / str(number),
                gate=False,
                quantization=found,
            )
            passages = [Passage([*ids, 0], 1) for ids in TEXTS]  # every position of the texts is scored
            kl = compare(result.artifact, result.manifest, source, spec, passages, 1).figures.mean_kl
            # The artifact's product rounds its activations to int8, which alone moves the KL by some percent.
            assert losses[name] == pytest.approx(kl, rel=0.15), name


def test_fewer_tokens_for_a_large_model() -> None:
    small, large = (
        spec_from_config(load_recipe(name).config) for name in ("smollm2-135m", "deepseek-r1-distill-llama-8b")
    )
    assert sample_tokens(small) == MOST_TOKENS
    assert sample_tokens(large) == LEAST_TOKENS


def test_a_model_that_gives_no_numbers(tmp_path: Path) -> None:
    config = tiny_config("qwen2")
    tensors = random_tensors(config)
    tensors["model.layers.1.mlp.down_proj.weight"] *= 1e25
    tensors["model.layers.1.mlp.up_proj.weight"] *= 1e15
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2", tensors)
    with opened(folder) as (source, spec), pytest.raises(CalibrationError, match=r"after layers\.1"):
        measure_losses(source, spec, ALL, "float32", TEXTS, 1)


def test_a_weight_that_is_not_finite(tmp_path: Path) -> None:
    config = tiny_config("qwen2")
    tensors = random_tensors(config)
    tensors["lm_head.weight"][7, 3] = np.nan
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2", tensors)
    with opened(folder) as (source, spec), pytest.raises(NonFiniteWeightError, match=r"lm_head.*\[7, 3\]"):
        measure_losses(source, spec, ALL, "float32", TEXTS, 1)
