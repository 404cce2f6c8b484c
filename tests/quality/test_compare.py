"""The comparison with the float model: losses by their definition, figures whatever the groups of texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from array_weights import ArrayWeights, tiny_weights
from bare_artifact import BareArtifact

from edgekit.errors import QualityError
from edgekit.export.decoder import ALL_POSITIONS
from edgekit.models import ModelSpec
from edgekit.quality.compare import Passage
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.streaming.float_model import FloatModel
from edgekit.weights.rotated import RotatedWeights

EIGHT = QuantizationScheme(8, 32, True)
INT8, FLOAT = QuantizationConfig(EIGHT, EIGHT, EIGHT), QuantizationConfig.none()
CONTEXT = 600
RNG = np.random.default_rng(5)
SHORT = [Passage(RNG.integers(2, 250, n).tolist(), start) for n, start in ((40, 1), (9, 8), (30, 15))]
ROUNDING = 1e-5  # of float32 sums in another order


def hidden_states(tensors: Mapping[str, np.ndarray], spec: ModelSpec, passage: Passage) -> dict[str, np.ndarray]:
    """The float model's hidden states after each part at the scored positions, and its logits, (positions, width)."""
    model = FloatModel(ArrayWeights(tensors), spec, CONTEXT, 1)
    feed = {"input_ids": np.array([passage.ids], np.int64), **model.context(len(passage.ids))}
    names = ["embedding", *(f"layers.{i}" for i in range(spec.num_layers))]
    pairs = [model.graph.residual(stage + 1) for stage in range(len(names))]
    run = model.graph.part((), [n for pair in pairs for n in pair], ALL_POSITIONS)
    values = [v[0, passage.scored].astype(np.float64) for v in run(feed)]
    found = {
        name: values[2 * i] if pair[0] == pair[1] else values[2 * i] + values[2 * i + 1]
        for i, (name, pair) in enumerate(zip(names, pairs, strict=True))
    }
    (outputs,) = model.graph.run([model.feed(passage.ids)], ALL_POSITIONS)
    return found | {"lm_head": outputs["logits"][0, passage.scored].astype(np.float64)}


def relative(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)


def test_scored_positions_predict_the_ids_from_start_on() -> None:
    passage = Passage([10, 11, 12, 13], 2)
    assert list(range(4))[passage.scored] == [1, 2]
    assert list(range(4))[Passage([10, 11, 12, 13], 1).scored] == [0, 1, 2]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_float_artifact_is_the_float_model(tmp_path: Path, family: str) -> None:
    tensors, spec = tiny_weights(family)
    found = BareArtifact(tmp_path / "out", ArrayWeights(tensors), spec, FLOAT).compare(tensors, spec, SHORT)
    assert abs(found.figures.mean_kl) < 1e-9
    assert found.figures.top1 == 1
    assert found.figures.tokens == sum(len(p.ids) - p.start for p in SHORT)
    assert list(found.losses) == ["embedding", "layers.0", "layers.1", "lm_head"]
    assert max(found.losses.values()) < ROUNDING


CHANGED = {
    "embedding": "model.embed_tokens.weight",
    "layers.0": "model.layers.0.mlp.up_proj.weight",
    "layers.1": "model.layers.1.self_attn.v_proj.weight",
}


@pytest.mark.parametrize("part", [*CHANGED, "lm_head"])
def test_the_loss_of_a_part_is_that_of_the_part_alone(tmp_path: Path, part: str) -> None:
    """The artifact has other weights in one part. The losses of all other parts are zero."""
    tensors, spec = tiny_weights("qwen2")
    changed = dict(tensors)
    name = CHANGED.get(part, "lm_head.weight")
    changed[name] = tensors[name] + 0.02 * RNG.standard_normal(tensors[name].shape).astype(np.float32)
    found = BareArtifact(tmp_path / "out", ArrayWeights(changed), spec, FLOAT).compare(tensors, spec, SHORT).losses
    errors = []
    for passage in SHORT:
        ours, theirs = (hidden_states(t, spec, passage)[part] for t in (changed, tensors))
        if part == "lm_head":
            # An equal change of all logits has no effect, so the float model's are taken less their mean.
            errors.append(
                np.linalg.norm(ours - theirs, axis=-1)
                / np.linalg.norm(theirs - theirs.mean(-1, keepdims=True), axis=-1)
            )
        else:
            errors.append(relative(ours, theirs))
    assert found.pop(part) == pytest.approx(np.concatenate(errors).mean(), rel=1e-3)
    assert max(found.values()) < ROUNDING


@pytest.mark.parametrize("activation_type", ["float32", "float16"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_eight_bits_lose_little_everywhere(tmp_path: Path, family: str, activation_type: str) -> None:
    tensors, spec = tiny_weights(family)
    made = BareArtifact(tmp_path / "out", ArrayWeights(tensors), spec, INT8, activation_type)
    found = made.compare(tensors, spec, SHORT)
    assert 0 < found.figures.mean_kl < 2e-3
    assert all(0 < loss < 0.03 for loss in found.losses.values())


def test_a_rotated_artifact_is_compared_in_its_basis(tmp_path: Path) -> None:
    tensors, spec = tiny_weights("qwen2")
    rotated = RotatedWeights(ArrayWeights(tensors), spec)
    found = BareArtifact(tmp_path / "out", rotated, rotated.spec, INT8, rotate=True).compare(tensors, spec, SHORT)
    assert 0 < found.figures.mean_kl < 2e-3
    assert all(0 < loss < 0.03 for loss in found.losses.values())
    other = BareArtifact(tmp_path / "other", rotated, rotated.spec, INT8).compare(tensors, spec, SHORT)
    assert other.losses["embedding"] > 1, "nothing says that it is rotated"


def test_texts_that_are_read_in_several_groups(tmp_path: Path) -> None:
    """More tokens than are read together: the figures are the means of all, the losses those of the first texts."""
    tensors, spec = tiny_weights("llama")
    made = BareArtifact(tmp_path / "out", ArrayWeights(tensors), spec, INT8, context=CONTEXT)
    passages = [Passage(RNG.integers(2, 250, 500).tolist(), start) for start in (450, 400, 490)]
    reports: list[tuple[float, float]] = []
    found = made.compare(tensors, spec, passages, progress=lambda done, total: reports.append((done, total)))
    single = [made.compare(tensors, spec, [p]) for p in passages]
    weights = [50, 100, 10]
    assert found.figures.tokens == sum(weights)
    for name in ("mean_kl", "top1"):
        expected = np.average([getattr(s.figures, name) for s in single], weights=weights)
        assert getattr(found.figures, name) == pytest.approx(expected, rel=1e-4)
    logs = [np.log(s.figures.perplexity) for s in single]
    assert found.figures.perplexity == pytest.approx(np.exp(np.average(logs, weights=weights)), rel=1e-4)
    assert found.losses == pytest.approx(single[0].losses, rel=1e-4)
    assert reports == sorted(reports)
    assert {total for _, total in reports} == {2}
    assert reports[-1][0] == pytest.approx(2)


def test_nan_in_the_float_model_is_no_reference(tmp_path: Path) -> None:
    tensors, spec = tiny_weights("llama")
    made = BareArtifact(tmp_path / "out", ArrayWeights(tensors), spec, INT8)
    for name in ("down_proj", "up_proj"):
        tensors[f"model.layers.1.mlp.{name}.weight"] *= np.float32(1e30)
    with pytest.raises(QualityError, match=r"the float model itself produces NaN or infinity after layers\.1"):
        made.compare(tensors, spec, SHORT)
