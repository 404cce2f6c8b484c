"""An engine's rates: from the profile, or as shares of the machine's limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import Sourced
from edgekit.devices.profile import EngineRates
from edgekit.planning.engine_speed import MEASURED_HERE_DEVIATION, EngineShares, EngineSpeed, Rates, measured_speed

SPEED = EngineSpeed(Rates(10.0, 5.0, 50.0), Rates(80.0, 40.0, 9.0), 0.1)


def test_a_token_by_hand() -> None:
    # 2 x 10^9 bytes at 10 GB/s, 10^9 multiply-adds at 5 x 10^9 per second, 20 layers of 50 us.
    assert SPEED.decode.seconds(2e9, 1e9, 20) == pytest.approx(0.2 + 0.2 + 0.001)


def test_a_prompt_by_hand() -> None:
    # 160 x 10^9 products at 80, 20 x 10^9 of attention at 40, 100 000 rows of 9 us.
    assert SPEED.prefill.seconds(160e9, 20e9, 100_000) == pytest.approx(2 + 0.5 + 0.9)


def test_shares_are_of_bandwidth_and_arithmetic() -> None:
    shares = EngineShares(Rates(0.5, 0.25, 40.0), Rates(0.5, 0.125, 4.0), 0.07)
    assert shares.speed(20.0, 400.0) == EngineSpeed(Rates(10.0, 100.0, 40.0), Rates(200.0, 50.0, 4.0), 0.07)


def test_measured_rates_are_the_profiles() -> None:
    rates = EngineRates("any", *(Sourced(value, "measured") for value in (10.0, 50.0, 5.0, 80.0, 9.0, 40.0)))
    assert measured_speed(rates) == replace(SPEED, deviation=MEASURED_HERE_DEVIATION)
