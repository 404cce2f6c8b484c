"""Seconds and tokens per second, by hand; what is unknown stays None."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgekit.devices import Sourced, load_device
from edgekit.devices.profile import EngineRates
from edgekit.planning.efficiency import Levels
from edgekit.planning.engine_speed import EngineShares, Rates, measured_speed
from edgekit.planning.engines import find_engine
from edgekit.planning.fitted import DECODE
from edgekit.planning.hardware import Hardware
from edgekit.planning.latency import FIXED_US_PER_LAYER, Predictor, fixed_us, prompt_peak
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.planning.work import Work
from edgekit.recipes import load_recipe

WORK = Work(
    token_bytes=10**9,
    layers=20,
    prompt_multiply_adds=10**9,
    last_multiply_adds=10**8,
    attention_multiply_adds=10**5,
    format="4bit",
)


SPEED = EngineShares(Rates(0.5, 0.1, 50.0), Rates(0.5, 0.2, 5.0), 0.07).speed(25.0, 300.0)
PROBED = Hardware("cpu", "", 25.0, 300.0, None, (), 2, SPEED)


PI = Hardware("cpu", "raspberry-pi-5", 17.1, 307.2, None, (("card", 90.0),), 4)
NATIVE, ORT = find_engine("native"), find_engine("ort")


def test_a_token_takes_its_bytes_and_a_fixed_cost_over_the_efficiency() -> None:
    predictor = Predictor(WORK, PI, NATIVE, 1000.0)
    found = predictor.decode_s(500)
    assert found is not None
    # 10^9 bytes of weights and 500 x 1000 of the cache at 17.1 GB/s are 58.509 ms; 20 layers of 100 us are 2 ms.
    assert found.mid * DECODE.estimate(predictor.levels).value == pytest.approx(60.509e-3, rel=1e-4)
    rate = predictor.decode_tok_s(500)
    assert rate is not None
    assert (rate.low, rate.high) == (pytest.approx(1 / found.high), pytest.approx(1 / found.low))


def test_a_probed_machine_is_planned_by_its_limits() -> None:
    predictor = Predictor(WORK, PROBED, NATIVE, 1000.0)
    token, first = predictor.decode_s(1000), predictor.prefill_s(128)
    # Weights at 12.5 GB/s 80 ms, cache at 25 GB/s 0.04, 20 layers 1, 10^8 of attention at 30 x 10^9 per second 3.333.
    assert token is not None
    assert token.mid == pytest.approx(84.373e-3, rel=1e-4)
    # 128.1 x 10^9 products at 150 x 10^9 per second 854 ms, 0.8256 of attention at 60 13.76, 2560 rows of 5 us 12.8.
    assert first is not None
    assert first.mid == pytest.approx(880.56e-3, rel=1e-4)
    assert predictor.calibrated
    assert token.high / token.mid == pytest.approx(math.exp(1.2816 * 0.07))


def test_an_engine_that_was_measured_here_is_planned_by_its_own_rates() -> None:
    rates = EngineRates("ort", *(Sourced(value, "measured") for value in (10.0, 50.0, 5.0, 80.0, 9.0, 40.0)))
    predictor = Predictor(WORK, replace(PROBED, speed=measured_speed(rates)), ORT, 1000.0)
    token, first = predictor.decode_s(1000), predictor.prefill_s(128)
    # 100 ms of weights, 0.04 of cache, 1 of layers, 20 of attention.
    assert token is not None
    assert token.mid == pytest.approx(121.04e-3)
    # 1601.25 ms of products, 20.64 of attention, 23.04 of rows.
    assert first is not None
    assert first.mid == pytest.approx(1644.93e-3)


def test_an_engine_without_shares_falls_back_to_published_figures() -> None:
    """An engine of the accelerator has no shares of the processor's limits."""
    predictor = Predictor(WORK, replace(PROBED, speed=None), NATIVE, 1000.0)
    found = predictor.decode_s(0)
    assert found is not None
    assert found.mid * DECODE.estimate(predictor.levels).value == pytest.approx(42.0e-3)


def test_a_prompt_takes_at_least_the_time_to_read_the_weights() -> None:
    tiny = replace(WORK, prompt_multiply_adds=1, last_multiply_adds=1, attention_multiply_adds=1)
    predictor = Predictor(tiny, PI, NATIVE, 0.0)
    assert predictor.prefill_s(1) == predictor.decode_s(0)


def test_longer_is_slower() -> None:
    for hardware in (PI, PROBED):
        predictor = Predictor(WORK, hardware, NATIVE, 1000.0)
        seconds = [predictor.decode_s(context) for context in (0, 1, 128, 4096)]
        prompts = [predictor.prefill_s(tokens) for tokens in (1, 128, 512, 4096)]
        for found in (seconds, prompts):
            mids = [each.mid for each in found if each]
            assert len(mids) == 4
            assert mids == sorted(mids)


def test_unknown_figures_are_none() -> None:
    nothing = Predictor(WORK, replace(PI, bandwidth_gb_s=None), NATIVE, 0.0).predict(100, 10, 1000)
    assert (nothing.ttft_s, nothing.decode_tok_s, nothing.calibrated) == (None, None, False)
    no_clock = Predictor(WORK, replace(PI, arithmetic_gmac_s=None), NATIVE, 0.0).predict(100, 10, 1000)
    assert no_clock.ttft_s is None
    assert no_clock.decode_tok_s is not None


def test_loading_and_heat() -> None:
    hot = Predictor(WORK, replace(PI, sustained_share=0.6), NATIVE, 0.0).predict(100, 10, 90 * 10**6)
    assert hot.load_s == (("card", pytest.approx(1.0)),)
    assert hot.decode_tok_s is not None
    assert hot.sustained_tok_s is not None
    assert hot.sustained_tok_s.mid == pytest.approx(0.6 * hot.decode_tok_s.mid)


@pytest.mark.parametrize(
    ("device", "engine", "why"),
    [
        ("pi", "native", ""),
        ("apple-m1", "native", ""),
        ("rtx-4090", "cuda", ""),
        ("rtx-4090", "webgpu", "no speed of onnxruntime's WebGPU plugin has been published for graphics cards"),
        ("rtx-4090", "native", "the profile has no memory bandwidth"),
        ("iphone-15-pro", "native", "no speeds of similar devices"),
        ("jetson", "ort", ""),
        ("jetson", "cuda", "no speed of onnxruntime with CUDA has been published for GPUs that share the memory"),
        ("cpu", "native", "the profile has no memory bandwidth"),
    ],
)
def test_an_uncalibrated_plan_says_why(device: str, engine: str, why: str) -> None:
    found = plan(load_recipe("smollm2-135m"), load_device(device), options=PlanOptions(engine=engine)).latency
    assert found.calibrated is (not why)
    assert found.uncalibrated_because.startswith(why)
    assert bool(found.uncalibrated_because) is bool(why)


def test_onnxruntime_on_cuda_has_its_own_costs() -> None:
    """Its layers launch more kernels, and its prompts multiply in float16."""
    ort, other = Levels("gpu", "geforce", "onnxruntime", "4bit"), Levels("gpu", "geforce", "ggml", "4bit")
    assert (fixed_us(ort), fixed_us(other)) == (70.0, 20.0)
    assert fixed_us(Levels("shared-gpu", "jetson", "onnxruntime", "4bit")) > fixed_us(ort)
    assert fixed_us(Levels("cpu", "desktop", "onnxruntime", "4bit")) == FIXED_US_PER_LAYER["cpu"]
    assert (prompt_peak(ort, 100.0), prompt_peak(other, 100.0)) == (50.0, 100.0)


def test_a_prompt_is_no_slower_than_its_tokens_one_by_one() -> None:
    predictor = Predictor(WORK, replace(PI, arithmetic_gmac_s=0.001), NATIVE, 1000.0)
    token, prompt = predictor.decode_s(64), predictor.prefill_s(128)
    assert token is not None
    assert prompt is not None
    assert prompt.mid == pytest.approx(128 * token.mid)


def test_where_fixed_costs_are_much_of_a_token_the_interval_is_wider() -> None:
    large, tiny = (Predictor(replace(WORK, token_bytes=size), PI, NATIVE, 0.0).decode_s(0) for size in (10**9, 10**6))
    assert large is not None
    assert tiny is not None
    assert tiny.high / tiny.low > 1.5 * large.high / large.low
