"""The script behind ``MEASURED`` finds the shares that made the times."""

from __future__ import annotations

import pytest
from latency_fit import engine_shares
from latency_fit.engine_shares import Row, fit

SHARES = (0.8, 0.2, 50.0)


def rows(noise: float = 0.0) -> list[Row]:
    made = []
    for i, (weights, layers) in enumerate(((0.03, 28), (0.004, 30), (0.2, 28))):
        for cache, attention in ((0.0, 0.0), (0.001, 0.002), (0.01, 0.02)):
            row = Row(f"{i}", 1.0, weights, cache, attention, layers)
            made.append(
                Row(f"{i}", row.predicted(*SHARES) * (1 + noise * (-1) ** i), weights, cache, attention, layers)
            )
    return made


def test_the_shares_that_made_the_times_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit(rows(0.02), (0.6, 0.3, 100.0)) == pytest.approx(SHARES, rel=0.2)
    monkeypatch.setattr(engine_shares, "HELD", 1e-6)
    assert fit(rows(), (0.6, 0.3, 100.0)) == pytest.approx(SHARES, rel=1e-3)


def test_what_nothing_tells_stays_as_it_is() -> None:
    no_attention = [Row(r.name, r.weights / 0.8 + r.layers * 50e-6, r.weights, 0.0, 0.0, r.layers) for r in rows()]
    assert fit(no_attention, (0.6, 0.3, 100.0))[1] == pytest.approx(0.3)
