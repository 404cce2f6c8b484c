"""The parts of a token's time: they add up, and each follows its own cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import load_device
from edgekit.planning.draft import draft
from edgekit.planning.plan import PlanOptions
from edgekit.planning.token_time import split_token
from edgekit.recipes import load_recipe


def test_the_parts_add_up_to_the_predicted_time() -> None:
    predictor = draft(load_recipe("r1-1.5b"), load_device("raspberry-pi-5-8gb"), 2048).predictor
    whole, found = predictor.decode_s(2047), split_token(predictor, 2047)
    assert whole is not None
    assert found is not None
    assert found.total_s == pytest.approx(whole.mid)
    assert min(found.weights_s, found.cache_s, found.fixed_s) > 0
    heavier = replace(predictor, work=replace(predictor.work, token_bytes=2 * predictor.work.token_bytes))
    more = split_token(heavier, 2047)
    assert more is not None
    assert more.weights_s == pytest.approx(2 * found.weights_s)
    assert (more.cache_s, more.fixed_s) == (pytest.approx(found.cache_s), pytest.approx(found.fixed_s))


def test_without_a_bandwidth_it_is_unknown() -> None:
    predictor = draft(load_recipe("smollm2-135m"), load_device("jetson"), options=PlanOptions("native")).predictor
    assert split_token(predictor, 0) is not None
    unknown = replace(predictor, hardware=replace(predictor.hardware, bandwidth_gb_s=None))
    assert split_token(unknown, 0) is None
