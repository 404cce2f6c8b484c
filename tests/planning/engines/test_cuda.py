"""The engine ``cuda`` in plans."""

from __future__ import annotations

import pytest

from edgekit.devices import load_device
from edgekit.planning.engines import cuda


@pytest.mark.parametrize(
    ("device", "preference", "processor"),
    [("jetson", 2, "shared-gpu"), ("rtx-3060", 2, "gpu"), ("pi", None, "gpu"), ("apple-m1", None, "gpu")],
)
def test_cuda_is_used_where_it_comes_first(device: str, preference: int | None, processor: str) -> None:
    profile = load_device(device)
    assert cuda.ENGINE.preference(profile) == preference
    assert cuda.ENGINE.processor(profile) == processor
