"""A checkpoint must be the recipe's function; how its numbers are written does not matter."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.build.inputs import recipe_from_checkpoint
from edgekit.build.pipeline import build
from edgekit.build.same_model import checked_spec, same_number, stored_head
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import TensorMismatchError
from edgekit.models import ModelSpec, spec_from_config
from edgekit.recipes.recipe import Recipe

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def recipe_of(folder: Path, **changes: Any) -> Recipe:
    """The checkpoint's recipe with changes to its config."""
    with open_checkpoint(folder) as checkpoint:
        recipe = recipe_from_checkpoint(checkpoint, folder)
    return dataclasses.replace(recipe, config={**recipe.config, **changes})


def checked(folder: Path, recipe: Recipe) -> ModelSpec:
    with open_checkpoint(folder) as checkpoint:
        return checked_spec(checkpoint, recipe, "here")


def test_a_checkpoint_must_be_the_recipes_model(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    assert checked(folder, recipe_of(folder)) == spec_from_config(recipe_of(folder).config)
    with pytest.raises(TensorMismatchError, match="num_layers of here is 2; the recipe model says 3") as caught:
        checked(folder, recipe_of(folder, num_hidden_layers=3))
    assert "--checkpoint PATH" in caught.value.hint


@pytest.mark.parametrize("written", [9.999999747378752e-06, 1e-5, float(np.float32(1e-5))])
def test_floats_are_compared_as_float32(tmp_path: Path, written: float) -> None:
    theta = float(np.float32(500000.1))
    folder = write_checkpoint(tmp_path / "model", rms_norm_eps=written, rope_theta=theta)
    found = checked(folder, recipe_of(folder, rms_norm_eps=1e-5, rope_theta=500000.1))
    assert found.rms_norm_eps == written
    with pytest.raises(TensorMismatchError, match=r"rms_norm_eps of here is .*; the recipe model says 1e-06"):
        checked(folder, recipe_of(folder, rms_norm_eps=1e-6))


def test_numbers() -> None:
    assert same_number(1e-5, 9.999999747378752e-06)
    assert not same_number(1e-5, 1.00001e-5)
    assert same_number(3, 3)
    assert not same_number(3, 4)
    assert not same_number(1e300, 1e301)


def test_rotary_embeddings_are_compared_by_their_angles(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", rope_scaling=LLAMA3)
    with open_checkpoint(folder) as checkpoint:
        scaled = spec_from_config(checkpoint.config).rope.inverse_frequencies()
    plain = spec_from_config(tiny_config("llama")).rope.inverse_frequencies()
    # As a GGUF file stores them: a divisor of each frequency, in float32.
    factors = [float(np.float32(p / s)) for p, s in zip(plain, scaled, strict=True)]
    checked(folder, recipe_of(folder, rope_scaling={"rope_type": "factors", "factors": factors}))
    for changes, words in (
        ({"rope_scaling": None}, r"rotary embedding of here is llama3, .*factor 8; .* says default, theta 10000"),
        ({"rope_theta": 20000.0}, "says llama3, theta 20000, factor 8"),
    ):
        with pytest.raises(TensorMismatchError, match=words):
            checked(folder, recipe_of(folder, **changes))


def test_an_attn_factor_that_a_gguf_file_lacks_is_the_recipes(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "qwen3", rope_scaling=YARN)
    meant = {**YARN, "attn_factor": 0.8782488562869419}
    for scaling, expected in ((meant, 1.0), (YARN, 1.138629436111989)):
        found = checked(folder, recipe_of(folder, rope_scaling=scaling))
        assert found.rope.attention_factor == pytest.approx(expected)
    with pytest.raises(TensorMismatchError, match=r"attention factor of here is 1\.1386294; .* says 1\.5"):
        checked(folder, recipe_of(folder, rope_scaling={**YARN, "attention_factor": 1.5}))


def test_a_longer_context_and_other_biases(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", max_position_embeddings=512)
    recipe = dataclasses.replace(recipe_of(folder, max_position_embeddings=1024), max_context=512)
    assert checked(folder, recipe).context_length == 512
    with pytest.raises(TensorMismatchError, match=r"context_length of here is 512; .* says max_context = 600"):
        checked(folder, dataclasses.replace(recipe, max_context=600))
    with pytest.raises(TensorMismatchError, match="bias of q_proj of here is absent; the recipe model says present"):
        checked(folder, recipe_of(folder, attention_bias=True))


def test_the_checkpoints_own_head_is_planned_and_built(tmp_path: Path) -> None:
    """As in GGUF files of a tied model that store the table twice, in two types."""
    tensors = random_tensors(tiny_config("llama", tie_word_embeddings=False))
    folder = write_checkpoint(tmp_path / "model", "llama", tensors, tie_word_embeddings=False)
    tied = recipe_of(folder, tie_word_embeddings=True)
    with open_checkpoint(folder) as checkpoint:
        changed, (note,) = stored_head(tied, checkpoint)
        assert changed.config["tie_word_embeddings"] is False
        spec = spec_from_config(tied.config)
        counted = dataclasses.replace(tied, parameters=spec.parameters)
        assert stored_head(counted, checkpoint)[0].parameters == spec_from_config(changed.config).parameters
        assert note.startswith("the recipe model says that the embedding is tied, but the checkpoint stores an lm_head")
        assert stored_head(changed, checkpoint) == (changed, ())
    result = build(tied, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)
    assert note in result.plan.notes
    manifest = read_manifest(result.artifact)
    assert manifest.model["parameters"] == sum(w.size for w in tensors.values())
