"""Calibration of tiny models: better than rounding to nearest, resumable, and with errors that name the cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

import edgekit.calibration.layers as module
from edgekit.calibration import head as calibration_head
from edgekit.calibration import state as calibration_state
from edgekit.calibration import stream as calibration_stream
from edgekit.calibration.layers import LayerSettings, calibrate
from edgekit.calibration.state import CalibrationState
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CalibrationError, NonFiniteWeightError
from edgekit.export.decoder import ALL_POSITIONS
from edgekit.layout import plan_layout
from edgekit.models import ModelSpec, spec_from_config
from edgekit.quantize.packing import PackedLinear
from edgekit.quantize.rtn import quantize_rows
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.streaming.float_model import FloatModel
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.weights.source import WeightSource

FOUR = QuantizationScheme(4, 32, True)
CONFIG = QuantizationConfig(FOUR, FOUR, FOUR, "gptq")
RNG = np.random.default_rng(5)
TEXTS = [RNG.integers(2, 250, n).tolist() for n in (60, 1, 100, 37, 90)]


@contextmanager
def opened(path: Path) -> Iterator[tuple[WeightSource, ModelSpec]]:
    with open_checkpoint(path) as checkpoint:
        spec = spec_from_config(checkpoint.config)
        yield CheckpointWeights(checkpoint, spec), spec


def run(checkpoint: Path, state: Path, compensate: bool = True, half_scales: bool = False) -> dict[str, PackedLinear]:
    with opened(checkpoint) as (source, spec), closing(CalibrationState(state, {})) as kept:
        layout = plan_layout(spec, CONFIG, "float32", 256)
        made = calibrate(source, spec, layout, TEXTS, kept, LayerSettings(1, compensate, half_scales))
        return {matrix.name: packed for matrix, packed in made}


def same(a: dict[str, PackedLinear], b: dict[str, PackedLinear]) -> bool:
    return a.keys() == b.keys() and all(a[n].codes.tobytes() == b[n].codes.tobytes() for n in a)


def hidden_states(checkpoint: Path, replaced: dict[str, np.ndarray]) -> np.ndarray:
    """The final norm's output of every token, from the streamed whole model."""
    with opened(checkpoint) as (source, spec):
        model = FloatModel(source, spec, 256, 1)
        overrides = {**ALL_POSITIONS, **{f"{name}.weight": value for name, value in replaced.items()}}
        live = [model.feed(ids) for ids in TEXTS]
        for stage in range(model.graph.num_stages):
            model.graph.run_stage(stage, live, overrides)
        return np.concatenate([v[model.graph.head_input][0] for v in live])


def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    with opened(checkpoint) as (source, spec):
        layout = plan_layout(spec, CONFIG, "float32", 256)
        return {
            matrix.name: np.concatenate([source.rows(p.weight, 0, p.out_features) for p in matrix.parts])
            for matrix in layout.calibrated()
        }


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_the_models_output_is_nearer_than_round_to_nearests(tmp_path: Path, family: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family)
    truth = hidden_states(checkpoint, {})
    ours = {name: packed.dequantize() for name, packed in run(checkpoint, tmp_path / "state").items()}
    nearest = {name: quantize_rows(w, FOUR, "float32").dequantize() for name, w in weights(checkpoint).items()}
    assert list(ours) == list(nearest), "every matrix of the layers and a head of its own, in the file's order"
    loss = [float(((hidden_states(checkpoint, w) - truth) ** 2).sum()) for w in (ours, nearest)]
    assert loss[0] < 0.8 * loss[1]


def inputs(model: FloatModel, tensor: str, replaced: dict[str, np.ndarray]) -> np.ndarray:
    """A tensor over all texts, (tokens, width), with some matrices replaced."""
    part = model.graph.part((), [tensor], {**ALL_POSITIONS, **replaced})
    feeds = [{"input_ids": np.array([ids], np.int64), **model.context(len(ids))} for ids in TEXTS]
    return np.concatenate([part(feed)[0][0] for feed in feeds]).astype(np.float64)


def stream(model: FloatModel, name: str, replaced: dict[str, np.ndarray]) -> np.ndarray:
    """The tensor to which the outputs of o_proj or down_proj are added, (tokens, width)."""
    nodes, layer = model.graph.nodes(), int(name.split(".")[2])
    norm = "input_norm" if name.endswith("o_proj") else "post_attention_norm"
    node = nodes[f"/model/layers.{layer}/{norm}/SkipSimplifiedLayerNormalization"]
    first, second = (inputs(model, n, replaced) if n in _made(nodes) else np.zeros(()) for n in node.input[:2])
    return first if node.input[0] == node.input[1] else first + second


def _made(nodes: dict) -> set[str]:
    return {name for node in nodes.values() for name in node.output}


@pytest.mark.parametrize("compensate", [True, False])
def test_each_matrix_sees_what_comes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compensate: bool
) -> None:
    """H and drift of every matrix equal sums over the whole models with the same weights before it."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    # without the engine's rounding of keys and values, which test_stream.py tests
    monkeypatch.setattr(calibration_stream, "MOST_HEAD_DIM", 0)
    seen: list[tuple[np.ndarray, np.ndarray | None]] = []

    def spy(
        weight: np.ndarray, h: np.ndarray, scheme: QuantizationScheme, scale_dtype: str, *, drift: np.ndarray | None
    ) -> PackedLinear:
        seen.append((h.copy(), None if drift is None else drift.copy()))
        return quantize_rows(weight, scheme, scale_dtype)

    for place in (module, calibration_head):
        monkeypatch.setattr(place, "quantize_gptq", spy)
    packed = run(checkpoint, tmp_path / "state", compensate=compensate)
    with opened(checkpoint) as (source, spec):
        model = FloatModel(source, spec, 256, 1)
        replaced: dict[str, np.ndarray] = {}
        for (h, drift), (name, codes) in zip(seen, packed.items(), strict=True):
            node = "/" + name.replace(".", "/").replace("layers/", "layers.")
            tensor = model.graph.nodes()[f"{node}/FusedMatMul"].input[0]
            x, y = inputs(model, tensor, replaced), inputs(model, tensor, {})
            np.testing.assert_allclose(h, x.T @ x, rtol=1e-3, atol=1e-3 * np.abs(h).max())
            if compensate:
                off = (y - x) @ weights(checkpoint)[name].T
                if name.endswith(("o_proj", "down_proj")):
                    off += stream(model, name, {}) - stream(model, name, replaced)
                expected = x.T @ off
                np.testing.assert_allclose(drift, expected, atol=1e-3 * max(np.abs(expected).max(), 1e-3))
                replaced[f"{name}.weight"] = codes.dequantize()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_an_interrupted_calibration_is_resumed_at_its_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family, num_hidden_layers=3)
    whole = run(checkpoint, tmp_path / "whole")
    real, calls = module.quantize_gptq, 0

    def counted(*arguments: object, **options: object) -> PackedLinear:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        return real(*arguments, **options)  # type: ignore[arg-type]

    for place in (module, calibration_head):
        monkeypatch.setattr(place, "quantize_gptq", counted)
    total = 12 if family == "llama" else 13  # a tied head is the embedding, which is rounded to nearest
    for stop in sorted({1, 6, 12, total}):  # in the first layer, in the second, at its last matrix, at the very last
        calls, state = 0, tmp_path / f"state-{stop}"
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint, state)
        calls, finished, stop = 0, (stop - 1) // 4, -1
        assert same(run(checkpoint, state), whole)
        assert calls == total - 4 * finished
        calls = 0
        assert same(run(checkpoint, state), whole)
        assert calls == 0, "a finished one is only read"


def test_scales_that_float16_can_hold(tmp_path: Path) -> None:
    """For an emitted checkpoint: the scales are float32, and exactly those of float16. A head is emitted in float."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    for half_scales in (False, True):
        found = run(checkpoint, tmp_path / f"state-{half_scales}", half_scales=half_scales)
        for name, packed in found.items():
            assert packed.scales.dtype == np.float32
            exact = np.array_equal(packed.scales.astype(np.float16).astype(np.float32), packed.scales)
            assert exact is (half_scales and name != "lm_head"), name


def test_an_interruption_between_codes_and_hidden_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama", num_hidden_layers=3)
    whole = run(checkpoint, tmp_path / "whole")

    def interrupted(state: CalibrationState, layer: int, width: int) -> object:
        if layer == 0:
            return create(state, layer, width)
        raise KeyboardInterrupt

    create = CalibrationState.create
    with monkeypatch.context() as patch:
        patch.setattr(CalibrationState, "create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint, tmp_path / "state")
    assert same(run(checkpoint, tmp_path / "state"), whole)


@pytest.mark.parametrize("memory_bytes", [0, 30_000])  # none, and enough for some
def test_it_is_the_same_with_little_memory_for_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    expected = run(checkpoint, tmp_path / "held")
    monkeypatch.setattr(calibration_state, "MEMORY_BYTES", memory_bytes)
    assert same(run(checkpoint, tmp_path / "state"), expected)
    assert (tmp_path / "state" / "activated.scratch").is_file()
    assert not (tmp_path / "held" / "activated.scratch").exists()


def test_activations_that_are_not_finite_name_their_matrix(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    for name in ("gate_proj", "up_proj"):
        tensors[f"model.layers.1.mlp.{name}.weight"] *= np.float32(1e25)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama", tensors)
    with pytest.raises(CalibrationError, match=r"model\.layers\.1\.mlp\.down_proj are NaN or infinite"):
        run(checkpoint, tmp_path / "state")


@pytest.mark.parametrize(("role", "row"), [("q_proj", 3), ("v_proj", 5)])
def test_a_nan_is_reported_with_the_checkpoints_tensor_name(tmp_path: Path, role: str, row: int) -> None:
    tensors = random_tensors(tiny_config("llama"))
    tensors[f"model.layers.1.self_attn.{role}.weight"][row, 7] = np.nan
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama", tensors)
    with pytest.raises(NonFiniteWeightError, match=rf"layers\.1\.self_attn\.{role}\.weight holds nan at \[{row}, 7\]"):
        run(checkpoint, tmp_path / "state")
