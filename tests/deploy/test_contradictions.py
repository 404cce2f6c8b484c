"""A receipt against a profile: each contradiction is named, and the corrected profile contradicts nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from receipts import JETSON, receipt

from edgekit.deploy.contradictions import corrected_profile, find_contradictions
from edgekit.deploy.receipt import Clock, Predicted, Receipt, Sustained
from edgekit.devices import Sourced, device_names, load_device
from edgekit.devices.profile import Bandwidth, Bytes, EngineRates, KernelPeak
from edgekit.devices.reader import read_device
from edgekit.devices.writer import format_device
from edgekit.errors import ArtifactError
from edgekit.planning.engines import find_engine
from edgekit.planning.hardware import hardware_of

PROFILE = load_device("jetson")
DRAW = "cpu.clusters[Cortex-A78AE].draw_gb_s"


def machine(**changes: Any) -> Receipt:
    return receipt(replace(JETSON, **changes))


def test_the_device_itself_contradicts_nothing() -> None:
    assert find_contradictions(receipt(), PROFILE) == ()


CASES = {
    "memory.total": machine(memory_bytes=4_100_000_000),
    "memory.usable": machine(available_bytes=2_000_000_000),
    "cpu.cores": machine(cores=4),
    "cpu.isa": machine(isa=("asimd",)),
    "cpu.clusters[Cortex-A78AE].clock_ghz": machine(clocks=(Clock("0", 1000.0, 1190.0, None),)),
    DRAW: receipt(predicted=Predicted(PROFILE.name, 50.0, 60.0, 70.0)),
    "thermal.sustained_share": receipt(sustained=Sustained(60.0, 900, 30.0, 15.0)),
}


@pytest.mark.parametrize("figure", CASES)
def test_each_contradiction_is_named_and_corrected(figure: str, tmp_path: Path) -> None:
    found = find_contradictions(CASES[figure], PROFILE)
    assert [each.figure for each in found] == [figure]
    assert found[0].profile != found[0].measured
    corrected = corrected_profile(CASES[figure], PROFILE)
    assert corrected != PROFILE
    fresh = replace(CASES[figure], predicted=None)  # the plan is made anew
    assert find_contradictions(fresh, corrected) == ()
    sources = {name: value.source for name, value in corrected.sourced()}
    assert sources[figure] == (
        "edgekit-run smoke test of tiny on NVIDIA Jetson Orin Nano Developer Kit, 2026-01-31T12:00:00Z"
    )
    path = tmp_path / f"{PROFILE.name}.toml"
    path.write_text(format_device(corrected))
    assert read_device(path) == corrected


def test_a_slow_decode_scales_what_the_cores_draw() -> None:
    corrected = corrected_profile(CASES[DRAW], PROFILE)
    draw = corrected.cpu.clusters[0].draw_gb_s
    assert draw is not None
    assert draw.value == 12.0  # half of 24
    assert draw.note == "decode ran at 0.5 times the planned speed: 30 instead of 60 tok/s"


@pytest.mark.parametrize("name", [name for name in device_names() if name != "cpu"])
def test_the_plan_of_the_engine_follows_and_no_other(name: str) -> None:
    profile = load_device(name)
    # Four times as fast as measured.
    slow = receipt(replace(JETSON, cores=None), device=name, predicted=Predicted(name, 90.0, 120.0, 160.0))
    corrected = corrected_profile(slow, profile)
    before, after = (hardware_of(each, find_engine("native")).bandwidth_gb_s for each in (profile, corrected))
    found = {each.figure.rpartition(".")[2] for each in find_contradictions(slow, profile)}
    if "draw_gb_s" in found:
        assert (before, after) == (before, pytest.approx((before or 0) / 4, rel=0.02))
    else:
        assert before is None
    if profile.accelerator is not None:
        assert hardware_of(corrected, find_engine("webgpu")) == hardware_of(profile, find_engine("webgpu"))


def test_a_probed_profile_has_another_sustained_bandwidth() -> None:
    rate = Sourced(300.0, "edgekit probe")
    laptop = load_device("laptop")
    cpu = replace(laptop.cpu, kernels=(KernelPeak("avx2", rate, rate),), fitted_as="")
    bandwidth = Bandwidth(sustained=Sourced(25.0, "edgekit probe"), one_core=Sourced(20.0, "edgekit probe"))
    probed = replace(laptop, cpu=cpu, bandwidth=bandwidth)
    slow = receipt(predicted=Predicted(probed.name, 50.0, 60.0, 70.0))
    assert "bandwidth.sustained" in [each.figure for each in find_contradictions(slow, probed)]
    corrected = corrected_profile(slow, probed).bandwidth
    assert corrected.sustained is not None
    assert (corrected.sustained.value, corrected.one_core) == (12.5, None)
    rates = (EngineRates("native", rate, rate, rate, rate, rate, rate),)
    measured = replace(probed, cpu=replace(cpu, engines=rates))  # the bandwidth does not change this engine's plan
    assert "bandwidth.sustained" not in [each.figure for each in find_contradictions(slow, measured)]


def test_what_no_figure_would_change_is_no_contradiction() -> None:
    fast = receipt(decode_tok_s=600.0, predicted=Predicted(PROFILE.name, 50.0, 60.0, 70.0))
    assert find_contradictions(fast, PROFILE) == ()  # more than the memory delivers
    for speed in (0.0, -1.0, 1e-300, 1e300):
        assert "draw" not in str(find_contradictions(replace(fast, decode_tok_s=speed), PROFILE))
    for engine in ("webgpu", "cuda", "another"):
        assert find_contradictions(replace(CASES[DRAW], engine=engine), PROFILE) == ()


def test_features_that_an_emulator_shows_contradict_nothing() -> None:
    assert find_contradictions(machine(isa=("avx2", "fma")), PROFILE) == ()


def test_a_speed_of_another_device_contradicts_nothing() -> None:
    assert find_contradictions(receipt(predicted=Predicted("raspberry-pi-5-8gb", 50.0, 60.0, 70.0)), PROFILE) == ()


def test_fewer_fast_cores_than_cores_of_both_kinds_contradict_nothing() -> None:
    phone = load_device("pixel-9")
    assert phone.cpu.cores is not None
    found = find_contradictions(machine(cores=1), phone)
    assert "cpu.cores" not in [each.figure for each in found]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"machine": replace(JETSON, clocks=(Clock("0", 1728.0, -1728.0, None),))},
            r"clock_ghz cannot stand .* -1\.728",
        ),
        ({"predicted": Predicted("jetson-orin-nano", 0.0, 0.0, 0.0)}, "predicted.mid is 0 tok/s; it must be above 0"),
    ],
)
def test_figures_that_no_device_has_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        corrected_profile(receipt(**changes), load_device("jetson-orin-nano"))


def test_a_test_without_tokens_says_nothing_of_heat() -> None:
    nothing = receipt(sustained=Sustained(60.0, 0, 0.0, 0.0))
    assert find_contradictions(nothing, load_device("jetson-orin-nano")) == ()


@pytest.mark.parametrize(
    ("found", "usable"),
    [(machine(available_bytes=2_000_000_000), 2_000_000_000), (machine(memory_bytes=4_100_000_000), 4_100_000_000)],
)
def test_a_budget_that_is_no_longer_usable_is_lowered(found: Receipt, usable: int, tmp_path: Path) -> None:
    budget = replace(PROFILE.budget, memory=Sourced(Bytes(5_000_000_000), "mine"))
    corrected = corrected_profile(found, replace(PROFILE, budget=budget))
    assert corrected.budget.memory is not None
    assert (corrected.budget.memory.value, corrected.memory.usable.value) == (usable, usable)
    assert corrected.budget.memory.note == "lowered from 5.00 GB to what is usable"
    told = find_contradictions(found, replace(PROFILE, budget=budget))
    assert told[0].detail.endswith(" budget.memory, which is more, is lowered to it.")
    assert "budget" not in find_contradictions(found, PROFILE)[0].detail
    path = tmp_path / f"{PROFILE.name}.toml"
    path.write_text(format_device(corrected))
    assert read_device(path) == corrected
    kept = replace(PROFILE, budget=replace(budget, memory=Sourced(Bytes(1_000_000_000), "mine")))
    assert corrected_profile(found, kept).budget == kept.budget
