"""What the cores of a processor draw from memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import Sourced, load_device
from edgekit.devices.profile import Cluster, Cpu
from edgekit.planning.core_draw import draw_gb_s, drawn_bandwidth


def _cpu(*clusters: tuple[str, int, float | None]) -> Cpu:
    found = tuple(
        Cluster(name, Sourced(cores, "made up"), draw_gb_s=None if draw is None else Sourced(draw, "made up"))
        for name, cores, draw in clusters
    )
    return replace(load_device("laptop").cpu, cores=None, clusters=found)


@pytest.mark.parametrize(
    ("clusters", "draw"),
    [
        ([("performance", 8, 200.0), ("efficiency", 4, 20.0)], 220.0),
        ([("performance", 8, 200.0), ("efficiency", 4, None)], None),
        ([("Cortex-A78AE", 12, None)], 45.0),
        ([("Cortex-A78AE", 6, None)], 30.0),
        ([("Cortex-A78AE", 6, 24.0)], 24.0),
        ([("Zen 4", 16, None)], 128.0),
        ([("Zen 5", 6, None)], 64.0),
        ([("Zenith", 6, None)], None),
        ([], None),
    ],
)
def test_clusters_draw_what_the_profile_or_their_design_says(
    clusters: list[tuple[str, int, float | None]], draw: float | None
) -> None:
    assert draw_gb_s(_cpu(*clusters)) == draw


def test_the_memory_is_the_limit_where_the_cores_draw_more() -> None:
    assert drawn_bandwidth(100.0, None) == 100.0
    assert drawn_bandwidth(100.0, 90.0) == 100.0
    assert drawn_bandwidth(200.0, 40.0) == pytest.approx(50.0)
