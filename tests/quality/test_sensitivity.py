"""The loss of a single matrix is the KL of a model in which only this matrix is rounded."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_weights import ArrayWeights, tiny_weights
from bare_artifact import BareArtifact
from shared_models import SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import CalibrationError, DiscardedStateWarning, NonFiniteWeightError, UsageError
from edgekit.layout import plan_layout
from edgekit.models import ModelSpec, spec_from_config
from edgekit.planning.widths import EMBEDDING, LM_HEAD
from edgekit.quality import sensitivity
from edgekit.quality.compare import Passage
from edgekit.quality.sensitivity import LEAST_TOKENS, MOST_TOKENS, measure_losses, measured_widths, sample_tokens
from edgekit.quantize.rtn import quantize_rows
from edgekit.recipes import load_recipe
from edgekit.scheme import QuantizationConfig, QuantizationScheme

FOUR = QuantizationScheme(4, 32, True)
ALL = QuantizationConfig(FOUR, FOUR, FOUR)
TEXTS = [np.random.default_rng(5).integers(2, 250, n).tolist() for n in (50, 30)]


def losses(tensors: dict[str, np.ndarray], spec: ModelSpec, **options: Any) -> dict[str, float]:
    return measure_losses(ArrayWeights(tensors), spec, ALL, "float32", TEXTS, 1, **options)


def rounded(tensors: dict[str, np.ndarray], spec: ModelSpec, name: str) -> dict[str, np.ndarray]:
    """The model's tensors, of which the parts of one matrix are rounded."""
    layout = plan_layout(spec, ALL, "float32", 1)
    parts = {m.name: m.parts for m in (layout.embedding, *layout.inner_matrices(), layout.lm_head)}[name]
    changed = {p.weight.name: quantize_rows(tensors[p.weight.name], FOUR, "float32").dequantize() for p in parts}
    return tensors | changed


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("group_bytes", [1, 1 << 30])  # one variant at a time, and all together
def test_each_loss_is_that_of_a_model_with_one_matrix_rounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, group_bytes: int
) -> None:
    monkeypatch.setattr(sensitivity, "GROUP_BYTES", group_bytes)
    # A separate head also where the embedding is tied by default, so that each can be rounded alone.
    tensors, spec = tiny_weights(family, tie_word_embeddings=False)
    done: list[float] = []
    found = losses(tensors, spec, progress=lambda n, total: done.append(n / total))
    assert done == sorted(done)
    assert done[-1] == 1
    assert len(found) == 2 + 4 * spec.num_layers
    passages = [Passage([*ids, 0], 1) for ids in TEXTS]  # every position of the texts is scored
    for name in (EMBEDDING, "model.layers.0.attn.qkv_proj", "model.layers.1.mlp.down_proj", LM_HEAD):
        source = ArrayWeights(rounded(tensors, spec, name))
        artifact = BareArtifact(tmp_path / name, source, spec, QuantizationConfig.none())
        assert found[name] == pytest.approx(artifact.compare(tensors, spec, passages).figures.mean_kl, rel=1e-3), name


def test_a_tied_table_is_measured_in_both_places() -> None:
    tensors, spec = tiny_weights("llama")
    found = losses(tensors, spec)
    assert found[EMBEDDING] > 0
    assert found[LM_HEAD] > 0
    assert found[EMBEDDING] != found[LM_HEAD]


def test_fewer_tokens_for_a_large_model() -> None:
    small, large = (
        spec_from_config(load_recipe(name).config) for name in ("smollm2-135m", "deepseek-r1-distill-llama-8b")
    )
    assert sample_tokens(small) == MOST_TOKENS
    assert sample_tokens(large) == LEAST_TOKENS


def test_hidden_states_that_are_not_finite() -> None:
    tensors, spec = tiny_weights("qwen2")
    tensors["model.layers.1.mlp.down_proj.weight"] *= np.float32(1e25)
    tensors["model.layers.1.mlp.up_proj.weight"] *= np.float32(1e15)
    with pytest.raises(CalibrationError, match=r"after layers\.1"):
        losses(tensors, spec)


def test_a_weight_that_is_not_finite() -> None:
    tensors, spec = tiny_weights("qwen2")
    tensors["lm_head.weight"][7, 3] = np.nan
    with pytest.raises(NonFiniteWeightError, match=r"lm_head.*\[7, 3\]"):
        losses(tensors, spec)


class Widths:
    """Chooses widths of the model of a shared artifact, with the losses kept in a file."""

    def __init__(self, artifact: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._artifact, self._cache = artifact, cache
        self._tensors, self._spec = tiny_weights("qwen2", max_position_embeddings=700)
        self.measured = 0
        real = sensitivity.measure_losses

        def counted(*arguments: Any) -> dict[str, float]:
            self.measured += 1
            return real(*arguments)

        monkeypatch.setattr(sensitivity, "measure_losses", counted)

    def choose(
        self, mean_bits: float = 7.0, source_key: str = "a", text: Path | None = None, activation_type: str = "float32",
        formats: QuantizationConfig = ALL, scaling: str | None = None,
    ) -> tuple[QuantizationConfig, dict[str, Any]]:  # fmt: skip
        facts = replace(read_manifest(self._artifact), activation_type=activation_type)
        facts = replace(facts, quantization=facts.quantization | {"scaling": {"tokens_sha256": scaling}})
        return measured_widths(
            self._artifact, facts, ArrayWeights(self._tensors), self._spec, replace(formats, mean_bits=mean_bits), text,
            self._cache, {"file": source_key}, 1, lambda done, total: None,
        )  # fmt: skip


@pytest.fixture
def widths(models: SharedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Widths:
    return Widths(models.artifact("qwen2"), tmp_path / "losses", monkeypatch)


def test_the_manifest_has_the_losses(widths: Widths) -> None:
    formats, described = widths.choose()
    assert formats.mean_bits is None
    assert {s.bits for s in (formats.embedding, formats.lm_head, *formats.matrices.values()) if s} == {4, 8}
    assert described["mean_bits"] == 7.0
    assert LEAST_TOKENS <= described["tokens"] <= MOST_TOKENS
    assert len(described["losses"]) == 10
    assert all(loss > 0 for loss in described["losses"].values())


def test_losses_are_measured_once(widths: Widths) -> None:
    first = widths.choose()
    assert widths.choose() == first
    widths.choose(mean_bits=6.5)
    assert widths.measured == 1, "the losses do not depend on the mean"


def test_losses_of_something_else_are_not_used(widths: Widths, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    asymmetric = QuantizationConfig(*[QuantizationScheme(4, 32, False)] * 3)
    changes: list[dict[str, Any]] = [
        {}, {"source_key": "b"}, {"text": tmp_path / "text.txt"}, {"activation_type": "float16"},
        {"formats": asymmetric}, {"scaling": "another text"},
    ]  # fmt: skip
    for change in changes:
        with pytest.warns(DiscardedStateWarning, match="of other inputs") if change else nullcontext():
            widths.choose(**change)
    assert widths.measured == len(changes)


@pytest.mark.parametrize("content", ["", "[]", "{", "\0"])
def test_a_damaged_file_of_losses_is_not_used(widths: Widths, tmp_path: Path, content: str) -> None:
    (tmp_path / "losses").write_text(content)
    with pytest.warns(DiscardedStateWarning, match="losses is damaged; the losses are measured again"):
        widths.choose()
    assert widths.measured == 1
    widths.choose()
    assert widths.measured == 1


def test_edited_losses_are_not_used(widths: Widths, tmp_path: Path) -> None:
    widths.choose()
    text = (tmp_path / "losses").read_text()
    (tmp_path / "losses").write_text(re.sub(r"0\.\d", "0.7", text, count=1))
    assert (tmp_path / "losses").read_text() != text
    with pytest.warns(DiscardedStateWarning, match="losses is damaged"):
        widths.choose()
    assert widths.measured == 2


def test_a_file_that_cannot_be_written_is_only_a_cache(widths: Widths, tmp_path: Path) -> None:
    (tmp_path / "losses").symlink_to(tmp_path / "nowhere" / "losses")
    formats, _ = widths.choose()
    assert formats.mean_bits is None


def test_a_mean_that_cannot_be_reached(widths: Widths) -> None:
    with pytest.raises(UsageError, match=r"a mean of 4\.1 bits"):
        widths.choose(mean_bits=4.1)
