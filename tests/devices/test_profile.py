"""A profile's values: their ranges, their list and their JSON."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import Sourced, load_device
from edgekit.devices.profile import Bandwidth, Budget, Bytes, Memory, Thermal

LAPTOP = load_device("laptop")


def test_every_figure_has_a_name() -> None:
    figures = dict(LAPTOP.sourced())
    assert figures["memory.usable"].value == LAPTOP.usable_bytes == 11_000_000_000
    assert figures["context"].value == LAPTOP.default_context == 4096
    assert any(name.startswith("cpu.clusters[") for name in figures)


def test_json_has_the_sources() -> None:
    shown = replace(LAPTOP, bandwidth=Bandwidth(Sourced(50.0, "unverified: a guess", "two channels"))).to_json()
    assert shown["bandwidth"] == {
        "theoretical": {"value": 50.0, "source": "unverified: a guess", "verified": False, "note": "two channels"},
        "sustained": None,
        "one_core": None,
    }
    assert shown["aliases"] == ["laptop"]


def test_a_source_that_begins_with_unverified_is_not_verified() -> None:
    assert Sourced(1, "data sheet").verified
    assert not Sourced(1, "Unverified: from memory").verified
    with pytest.raises(ValueError, match="source is empty"):
        Sourced(1, " ")


def test_values_that_cannot_be() -> None:
    def gb(value: float) -> Sourced[Bytes]:
        return Sourced(Bytes(round(value * 1e9)), "x")

    with pytest.raises(ValueError, match="usable is 9000000000 bytes, more than the total of 8000000000"):
        Memory(gb(8), gb(9))
    for headless in (5, 9):  # less than with the desktop, more than there is
        with pytest.raises(ValueError, match=f"usable_headless is {headless}000000000 bytes; it must be from usable"):
            Memory(gb(8), gb(6), gb(headless))
    with pytest.raises(ValueError, match="sustained is 20 GB/s, more than the theoretical 10"):
        Bandwidth(Sourced(10, "x"), Sourced(20, "x"))
    with pytest.raises(ValueError, match=r"sustained_share is 1\.5; it must be at most 1"):
        Thermal(Sourced(1.5, "x"))
    with pytest.raises(ValueError, match="ttft_s is nan; it must be above 0"):
        Budget(Sourced(float("nan"), "x"))
    with pytest.raises(ValueError, match=r"budget\.memory is 12000000000 bytes, more than the usable 11000000000"):
        replace(LAPTOP, budget=Budget(memory=gb(12)))
    with pytest.raises(ValueError, match="kind is 'toaster'; allowed: jetson"):
        replace(LAPTOP, kind="toaster")
