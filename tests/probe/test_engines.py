"""Measuring engines: the rates behind the times are found and used for plans."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.devices import DeviceProfile, Sourced, load_device
from edgekit.devices.profile import Bandwidth, KernelPeak
from edgekit.devices.writer import format_device
from edgekit.errors import DiskFullError, ProbeError
from edgekit.planning.engine_speed import EngineSpeed, Rates, measured_speed
from edgekit.planning.memory import Dimensions
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.planning.work import Work
from edgekit.probe import engines
from edgekit.probe.engines import Times, find_rates, processor_engines, with_engine_rates
from edgekit.probe.reference_models import SHAPES, ReferenceModel
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


# The same widths with two layers and short prompts: built in a moment.
SMALL = tuple(
    replace(shape, prompt_tokens=(8, 64), changes={"num_hidden_layers": 2, "vocab_size": 512}) for shape in SHAPES
)
# What the fit starts from.
LIKELY = EngineSpeed(Rates(18.2, 72.0, 38.0), Rates(147.0, 60.0, 4.1), 0.07)


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
    found = find_rates("native", [wide, narrow], Times(rounds, 2, 2, "float16"), 20.0, LIKELY)
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
    assert found.weights_gb_s.source.startswith(
        "edgekit probe: 2 threads, 2 models, contexts up to 1000, fastest of 2 rounds"
    )


def test_the_engines_of_the_processor_are_measured() -> None:
    assert list(processor_engines()) == ["native", "ort"]
    for shares in processor_engines().values():
        assert 0 < shares.prefill.weights < shares.decode.weights < 1


@pytest.mark.slow
def test_both_engines_really_run(probed: DeviceProfile, tmp_path: Path) -> None:
    phases: list[str] = []
    found = with_engine_rates(probed, lambda phase, done, total: phases.append(phase), SMALL, rounds=1)
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
    predictor = plan(load_recipe("smollm2-135m"), found, options=PlanOptions(engine="ort")).predictor
    assert predictor.hardware.speed == measured_speed(found.cpu.engines[1]), "a plan uses the engine's own rates"


def test_a_profile_without_limits_is_refused(probed: DeviceProfile) -> None:
    with pytest.raises(ProbeError, match="board has no measured limits to start from"):
        with_engine_rates(replace(probed, bandwidth=Bandwidth()))


def test_a_full_disk_names_the_way_out(probed: DeviceProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Any:
        raise DiskFullError("no room to write", "free some space, or choose another place with --out")

    monkeypatch.setattr(engines, "build_models", full)
    with pytest.raises(DiskFullError, match="no room to write") as raised:
        with_engine_rates(probed)
    assert raised.value.hint == "set TMPDIR to a folder with 450 MB of free space"


def test_a_missing_temporary_folder_is_named(probed: DeviceProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**options: Any) -> Any:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(ProbeError, match="cannot build a model in the temporary folder: No usable temporary directory"):
        with_engine_rates(probed)
