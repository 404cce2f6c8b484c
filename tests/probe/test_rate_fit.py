"""The fit finds the rates behind the times."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from edgekit.planning.engine_speed import Rates
from edgekit.probe.rate_fit import Row, fit

RATES = Rates(0.8, 0.2, 50.0)
START = Rates(0.6, 0.3, 100.0)


def rows(noise: float = 0.0) -> list[Row]:
    made = []
    for i, (weights, layers) in enumerate(((0.03e9, 28), (0.004e9, 30), (0.2e9, 28))):
        for cache, attention in ((0.0, 0.0), (0.001, 0.002e9), (0.01, 0.02e9)):
            row = Row(f"{i}", 1.0, weights, cache, attention, layers)
            made.append(Row(f"{i}", row.predicted(RATES) * (1 + noise * (-1) ** i), weights, cache, attention, layers))
    return made


def test_the_rates_that_made_the_times_are_found() -> None:
    assert astuple(fit(rows(0.02), START)) == pytest.approx(astuple(RATES), rel=0.2)
    assert astuple(fit(rows(), START, pull=1e-6)) == pytest.approx(astuple(RATES), rel=1e-3)


def test_an_undetermined_rate_keeps_its_value() -> None:
    no_attention = [Row(r.name, r.weights / 0.8e9 + r.layers * 50e-6, r.weights, 0.0, 0.0, r.layers) for r in rows()]
    assert fit(no_attention, START).attention == pytest.approx(0.3)
