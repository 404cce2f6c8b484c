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
from edgekit.planning.engine_speed import EngineSpeed
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan_recipe
from edgekit.probe import engines as engine_rates
from edgekit.probe.engines import with_engine_rates
from edgekit.recipes import load_recipe


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


def test_the_rates_behind_the_times_are_found(
    small: None, probed: DeviceProfile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A layer costs ten times what is likely, so that two of them tell it.
    speed = EngineSpeed(
        weights_gb_s=15.0,
        layer_us=400.0,
        decode_attention_gmac_s=72.0,
        prefill_gmac_s=120.0,
        row_us=4.1,
        prefill_attention_gmac_s=60.0,
        deviation=0.0,
    )
    models: dict[str, Any] = {}
    build = engine_rates._build

    def remembered(*arguments: Any) -> Any:
        model = build(*arguments)
        models[model.manifest.name] = model
        return model

    def opened(folder: Path, manifest: Any, options: Any, name: str) -> Any:
        return SimpleNamespace(
            name=manifest.name, vocab_size=512, threads=2, kv_type="float16", close=lambda: None, calls=0
        )

    def timed(engine: Any, ids: Any, gen_tokens: int) -> tuple[float, float]:
        engine.calls += 1
        slow = 3 if engine.calls % 9 == 4 else 1  # one round in three, of one length: the least does not see it
        work, positions = models[engine.name].work, len(ids) * (len(ids) > 1) + gen_tokens // 2
        cache_s = positions * engine_rates.kv_cache_bytes(models[engine.name].dimensions, 1, "float16") / 20e9
        token_s = speed.decode_s(work.token_bytes, cache_s, positions * work.attention_multiply_adds, work.layers)
        prompt_s = speed.prefill_s(work.multiply_adds(len(ids)), work.attention(len(ids)), len(ids) * work.layers)
        return slow * prompt_s, slow * gen_tokens * token_s

    monkeypatch.setattr(engine_rates, "_build", remembered)
    monkeypatch.setattr(engine_rates, "open_engine", opened)
    monkeypatch.setattr(engine_rates, "time_round", timed)
    phases: list[str] = []
    found = with_engine_rates(probed, lambda phase, done, total: phases.append(phase))
    assert list(dict.fromkeys(phases)) == [
        "building deepseek-r1-distill-qwen-1.5b's shape",
        "building smollm2-135m's shape",
        "measuring the engine native",
        "measuring the engine ort",
    ]
    native, ort = found.cpu.engines
    assert (native.name, ort.name) == ("native", "ort")
    assert native.weights_gb_s.value == pytest.approx(15.0, rel=0.05)
    assert native.prefill_gmac_s.value == pytest.approx(120.0, rel=0.05)
    assert native.layer_us.value == pytest.approx(400.0, rel=0.05)
    assert native.weights_gb_s.source.startswith("edgekit probe: 2 threads, 2 models")

    path = tmp_path / "board.toml"
    path.write_text(format_device(found), encoding="utf-8")
    assert load_device(path) == found
    predictor = plan_recipe(load_recipe("smollm2-135m"), found, options=PlanOptions(engine="native")).predictor
    known = EngineSpeed(*(getattr(native, f).value for f in list(native.__dataclass_fields__)[1:]), deviation=0.0)
    token = predictor.decode_s(0)
    assert token is not None
    assert token.mid == pytest.approx(known.decode_s(predictor.work.token_bytes, 0.0, 0.0, predictor.work.layers))


def test_both_engines_really_run(small: None, probed: DeviceProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_rates, "ROUNDS", 1)
    found = with_engine_rates(probed).cpu.engines
    assert [rates.name for rates in found] == ["native", "ort"]
    assert all(rates.prefill_gmac_s.value > 0 for rates in found)  # a profile refuses others anyway


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
