"""Engines are measured by running them: the rates that made the times are found, and planned by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.devices import DeviceProfile, Sourced, load_device
from edgekit.devices.profile import Bandwidth, KernelPeak
from edgekit.devices.writer import format_device
from edgekit.errors import DiskFullError, ProbeError
from edgekit.planning.engines import find_engine
from edgekit.planning.memory import Dimensions
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan_recipe
from edgekit.planning.work import Work
from edgekit.probe import engines as engine_rates
from edgekit.probe.engines import ReferenceModel, Times, find_rates, processor_engines, with_engine_rates
from edgekit.recipes import load_recipe

# The fit is pulled towards the likely rates: a little, or more where a term is a small part of every time.
PULLED, SMALL_PART = 0.05, 0.15


def figure(value: float) -> Sourced[float]:
    return Sourced(value, "measured")


@pytest.fixture
def probed() -> DeviceProfile:
    board = load_device("pi")
    kernel = KernelPeak("fast", figure(300.0), figure(150.0))
    return replace(
        board,
        name="board",
        aliases=(),
        bandwidth=Bandwidth(None, figure(20.0), figure(10.0)),
        cpu=replace(board.cpu, kernels=(kernel,)),
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same widths, two layers and few tokens: built in a moment."""
    monkeypatch.setattr(
        engine_rates,
        "MODELS",
        {name: {"num_hidden_layers": 2, "vocab_size": 512} for name in engine_rates.MODELS},
    )
    monkeypatch.setattr(engine_rates, "PROMPT_TOKENS", dict.fromkeys(engine_rates.MODELS, (8, 64)))
    monkeypatch.setattr(engine_rates, "GEN_TOKENS", 4)


def _model(name: str, work: Work) -> ReferenceModel:
    """A model whose cache has 100 bytes a position and layer."""
    shape = Dimensions(work.layers, 1, 1, 1, 1, 1, 1, cache_width=50, cache_rows=1, largest_linear=1)
    manifest: Any = SimpleNamespace(name=name)
    return ReferenceModel(Path(name), manifest, (100, 1000), work, shape)


def test_the_rates_behind_the_times_are_found() -> None:
    """Times by hand: the engine reads weights at 10 GB/s, a layer costs 100 us, and so on; memory reads 20 GB/s."""
    wide = _model("wide", Work(10**9, 10, 10**9, 0, 10**6, "4bit"))
    narrow = _model("narrow", Work(10**8, 100, 10**8, 0, 10**5, "4bit"))
    token_s = {  # weights + KV cache + attention + layers, in the middle of 16 tokens
        (0, 0): 0.1 + 0.4e-6 + 0.16e-3 + 1e-3,
        (0, 100): 0.1 + 5.4e-6 + 2.16e-3 + 1e-3,
        (0, 1000): 0.1 + 50.4e-6 + 20.16e-3 + 1e-3,
        (1, 0): 0.01 + 4e-6 + 0.016e-3 + 10e-3,
        (1, 100): 0.01 + 54e-6 + 0.216e-3 + 10e-3,
        (1, 1000): 0.01 + 504e-6 + 2.016e-3 + 10e-3,
    }
    prompt_s = {  # products + attention + rows
        (0, 100): 1.0 + 0.101 + 0.005,
        (0, 1000): 10.0 + 10.01 + 0.05,
        (1, 100): 0.1 + 0.0101 + 0.05,
        (1, 1000): 1.0 + 1.001 + 0.5,
    }
    # The least time counts: the second round was disturbed.
    rounds = {
        key: [(prompt_s.get(key, 9.0), 16 * s), (9.0 * prompt_s.get(key, 9.0), 99 * s)] for key, s in token_s.items()
    }
    found = find_rates("native", [wide, narrow], Times(rounds, 2, "float16"), bandwidth_gb_s=20.0, peak_gmac_s=300.0)
    assert found.name == "native"
    for rate, expected, tolerance in (
        (found.weights_gb_s, 10.0, PULLED),
        (found.layer_us, 100.0, PULLED),
        (found.decode_attention_gmac_s, 50.0, SMALL_PART),
        (found.prefill_gmac_s, 100.0, PULLED),
        (found.prefill_attention_gmac_s, 50.0, PULLED),
        (found.row_us, 5.0, PULLED),
    ):
        assert rate.value == pytest.approx(expected, rel=tolerance)
    assert found.weights_gb_s.source.startswith("edgekit probe: 2 threads, 2 models, to context 1000")


def test_only_engines_of_the_processor_have_rates_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processor_engines() == ("native", "ort")
    accelerated = replace(find_engine("native"), shares=None)
    monkeypatch.setattr(engine_rates, "find_engine", lambda name: accelerated)
    with pytest.raises(ProbeError, match="the engine gpu does not run on the processor"):
        find_rates("gpu", [_model("a", Work(1, 1, 1, 1, 1, "4bit"))], _times(), 20.0, 300.0)


def _times() -> Times:
    return Times({(0, length): [(1.0, 1.0)] for length in (0, 100, 1000)}, 1, "float16")


def test_both_engines_really_run(
    small: None, probed: DeviceProfile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine_rates, "ROUNDS", 1)
    phases: list[str] = []
    found = with_engine_rates(probed, lambda phase, done, total: phases.append(phase))
    assert list(dict.fromkeys(phases)) == [
        "building deepseek-r1-distill-qwen-1.5b's shape",
        "building smollm2-135m's shape",
        "measuring the engine native",
        "measuring the engine ort",
    ]
    assert [rates.name for rates in found.cpu.engines] == ["native", "ort"]
    assert all(rates.prefill_gmac_s.value > 0 for rates in found.cpu.engines)  # a profile refuses others anyway

    path = tmp_path / "board.toml"
    path.write_text(format_device(found), encoding="utf-8")
    assert load_device(path) == found
    predictor = plan_recipe(load_recipe("smollm2-135m"), found, options=PlanOptions(engine="ort")).predictor
    assert predictor.hardware.rates == found.cpu.engines[1], "a plan uses the engine's own rates"


def test_what_cannot_be_measured_is_said(small: None, probed: DeviceProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProbeError, match="no measured limits"):
        with_engine_rates(replace(probed, bandwidth=Bandwidth()))

    def full(*arguments: Any, **options: Any) -> Any:
        raise DiskFullError("no space to write", "free some space, or choose a folder on another disk with --out")

    monkeypatch.setattr(engine_rates, "export_model", full)
    with pytest.raises(DiskFullError) as raised:
        with_engine_rates(probed)
    assert "TMPDIR" in raised.value.hint

    def none(**options: Any) -> Any:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(engine_rates.tempfile, "TemporaryDirectory", none)
    with pytest.raises(ProbeError, match="No usable temporary directory"):
        with_engine_rates(probed)
