"""A receipt against a profile: each contradiction is named, and the corrected profile contradicts nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from receipts import JETSON, receipt

from edgekit.deploy.contradictions import corrected_profile, find_contradictions
from edgekit.deploy.receipt import Clock, Predicted, Receipt, Sustained
from edgekit.devices import load_device
from edgekit.devices.reader import read_device
from edgekit.devices.writer import format_device
from edgekit.errors import ArtifactError

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
    assert "become the measured 30" in draw.note


def test_without_a_limit_of_the_cores_a_slow_decode_scales_the_bandwidth() -> None:
    clusters = tuple(replace(cluster, draw_gb_s=None) for cluster in PROFILE.cpu.clusters)
    profile = replace(PROFILE, cpu=replace(PROFILE.cpu, clusters=clusters))
    slow = CASES[DRAW]
    assert [each.figure for each in find_contradictions(slow, profile)] == ["bandwidth.theoretical"]
    assert corrected_profile(slow, profile).bandwidth.sustained.value == 51.0  # type: ignore[union-attr]
    fast = replace(slow, decode_tok_s=100.0)
    assert corrected_profile(fast, profile).bandwidth.sustained.value == 102.0  # type: ignore[union-attr]


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
