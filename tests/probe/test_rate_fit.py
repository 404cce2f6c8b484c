"""The fit finds the rates behind the times."""

from __future__ import annotations

import pytest

from edgekit.probe.rate_fit import Row, fit

RATES = (0.8, 0.2, 50.0)


def rows(noise: float = 0.0) -> list[Row]:
    made = []
    for i, (weights, layers) in enumerate(((0.03, 28), (0.004, 30), (0.2, 28))):
        for cache, attention in ((0.0, 0.0), (0.001, 0.002), (0.01, 0.02)):
            row = Row(f"{i}", 1.0, weights, cache, attention, layers)
            made.append(Row(f"{i}", row.predicted(*RATES) * (1 + noise * (-1) ** i), weights, cache, attention, layers))
    return made


def test_the_rates_that_made_the_times_are_found() -> None:
    assert fit(rows(0.02), (0.6, 0.3, 100.0)) == pytest.approx(RATES, rel=0.2)
    assert fit(rows(), (0.6, 0.3, 100.0), pull=1e-6) == pytest.approx(RATES, rel=1e-3)


def test_an_undetermined_rate_keeps_its_value() -> None:
    no_attention = [Row(r.name, r.weights / 0.8 + r.layers * 50e-6, r.weights, 0.0, 0.0, r.layers) for r in rows()]
    assert fit(no_attention, (0.6, 0.3, 100.0))[1] == pytest.approx(0.3)
