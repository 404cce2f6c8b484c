"""GPTQ of the lm_head: the codes are GPTQ's for sums over the final norm's output, in pieces or at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.calibration import head as module
from edgekit.calibration.head import quantize_head
from edgekit.calibration.state import CalibrationState
from edgekit.calibration.stream import Stream
from edgekit.errors import CalibrationError, NonFiniteWeightError
from edgekit.layout import plan_layout
from edgekit.models import ModelSpec
from edgekit.quantize.gptq import quantize_gptq
from edgekit.quantize.packing import PackedLinear
from edgekit.quantize.rtn import quantize_rows
from edgekit.quantize.sums import InputSums
from edgekit.scheme import QuantizationConfig, QuantizationScheme

LAYERS, TOKENS = 2, 160
BOUNDS = [(0, 100), (100, 101), (101, TOKENS)]
TENSORS, SPEC = tiny_weights("qwen2")
RNG = np.random.default_rng(3)
# Hidden states after the last layer: the quantized model's, which are close to the float model's, and the latter.
FLOAT = RNG.standard_normal((TOKENS, SPEC.hidden_size)).astype(np.float32)
OURS = FLOAT + 0.1 * RNG.standard_normal(FLOAT.shape).astype(np.float32)
# Sums in another order may round a code differently, and then other codes of the same row, of which there are 300.
DIFFERENT_CODES = 0.02


def quantized(
    folder: Path, scheme: QuantizationScheme, hidden: Sequence[np.ndarray], tensors: dict[str, np.ndarray] = TENSORS,
    reports: list[float] | None = None,
) -> PackedLinear:  # fmt: skip
    """The head for the given hidden states of each stream."""
    source = ArrayWeights(tensors)
    head = plan_layout(SPEC, QuantizationConfig(scheme, scheme, scheme), "float32", 8).lm_head
    with closing(CalibrationState(folder, {})) as state:
        with state.create(LAYERS, SPEC.hidden_size) as rows:
            for number, values in enumerate(hidden):
                rows.write(number * TOKENS, values)
        streams = [Stream(source, SPEC, 100, 1) for _ in hidden]
        report = [].append if reports is None else reports.append
        return quantize_head(streams, source, head, state, LAYERS, BOUNDS, "float32", report)


def normed(hidden: np.ndarray) -> np.ndarray:
    """The final norm in numpy."""
    wide = hidden.astype(np.float64)
    scale = np.sqrt((wide**2).mean(-1, keepdims=True) + SPEC.rms_norm_eps)
    return (wide / scale * TENSORS["model.norm.weight"]).astype(np.float32)


def check_same(found: PackedLinear, expected: PackedLinear) -> None:
    assert (found.codes != expected.codes).mean() < DIFFERENT_CODES
    np.testing.assert_allclose(found.scales, expected.scales, rtol=1e-3)
    assert (found.zero_points is None) == (expected.zero_points is None)
    if found.zero_points is not None:
        np.testing.assert_array_equal(found.zero_points, expected.zero_points)


def loss(packed: PackedLinear, spec: ModelSpec = SPEC) -> float:
    """The squared error of the logits on the quantized model's hidden states, against the float model's logits."""
    weight = TENSORS[spec.lm_head.weight.name]
    return float(((normed(OURS) @ packed.dequantize().T - normed(FLOAT) @ weight.T) ** 2).sum())


@pytest.mark.parametrize("scheme", [QuantizationScheme(4, 32, True), QuantizationScheme(4, 64, False)])
@pytest.mark.parametrize("compensate", [True, False])
def test_codes_are_gptqs_for_the_final_norms_output(
    tmp_path: Path, scheme: QuantizationScheme, compensate: bool
) -> None:
    found = quantized(tmp_path, scheme, [OURS, FLOAT] if compensate else [FLOAT])
    weight = TENSORS["lm_head.weight"]
    sums = InputSums(weight, compensate)
    if compensate:
        sums.add(normed(OURS), normed(FLOAT))
    else:
        sums.add(normed(FLOAT), None)
    h, drift = sums.finish()
    expected = quantize_gptq(weight, h, scheme, "float32", drift=drift)
    check_same(found, expected)


def test_the_logits_are_nearer_than_round_to_nearests(tmp_path: Path) -> None:
    scheme = QuantizationScheme(4, 32, True)
    nearest = quantize_rows(TENSORS["lm_head.weight"], scheme, "float32")
    assert loss(quantized(tmp_path, scheme, [OURS, FLOAT])) < 0.9 * loss(nearest)


@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_are_quantized_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symmetric: bool) -> None:
    scheme = QuantizationScheme(4, 32, symmetric)
    whole = quantized(tmp_path / "whole", scheme, [OURS, FLOAT])
    monkeypatch.setattr(module, "CHUNK_WEIGHTS", SPEC.hidden_size * 100)
    reports: list[float] = []
    pieces = quantized(tmp_path / "pieces", scheme, [OURS, FLOAT], reports=reports)
    assert reports == [start / SPEC.vocab_size for start in range(0, SPEC.vocab_size, 100)]
    check_same(pieces, whole)


def test_a_finished_head_is_only_read(tmp_path: Path) -> None:
    scheme = QuantizationScheme(4, 32, False)
    made = quantized(tmp_path, scheme, [OURS, FLOAT])
    head = plan_layout(SPEC, QuantizationConfig(scheme, scheme, scheme), "float32", 8).lm_head
    source = ArrayWeights({})  # reading a tensor would fail
    with closing(CalibrationState(tmp_path, {})) as state:
        again = quantize_head([], source, head, state, LAYERS, BOUNDS, "float32", lambda _: None)
    np.testing.assert_array_equal(again.dequantize(), made.dequantize())


def test_hidden_states_that_are_not_finite(tmp_path: Path) -> None:
    bad = OURS.copy()
    bad[50, 3] = np.inf
    with pytest.raises(CalibrationError, match="inputs of lm_head are NaN or infinite"):
        quantized(tmp_path, QuantizationScheme(4, 32, True), [bad, FLOAT])


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_weight_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(module, "CHUNK_WEIGHTS", SPEC.hidden_size * 100)
    tensors = {**TENSORS, "lm_head.weight": TENSORS["lm_head.weight"].copy()}
    tensors["lm_head.weight"][250, 5] = value
    with pytest.raises(NonFiniteWeightError, match=rf"lm_head.weight holds {value:g} at \[250, 5\]"):
        quantized(tmp_path, QuantizationScheme(4, 32, True), [OURS, FLOAT], tensors)


def test_a_head_of_8_bits_is_not_calibrated() -> None:
    four = QuantizationScheme(4, 32, True)
    for bits, last in ((4, "lm_head"), (8, "model.layers.1.mlp.down_proj")):
        config = QuantizationConfig(four, four, replace(four, bits=bits))
        assert list(plan_layout(SPEC, config, "float32", 8).calibrated())[-1].name == last
