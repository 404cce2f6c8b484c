"""The engine ``webgpu`` in plans."""

from __future__ import annotations

from edgekit.devices import load_device
from edgekit.planning.engines import webgpu


def test_it_is_planned_for_no_device_yet() -> None:
    assert webgpu.ENGINE.preference(load_device("jetson")) is None
    assert webgpu.ENGINE.name == "webgpu"
