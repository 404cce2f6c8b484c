"""Seconds and tokens per second, by hand where they can be; and what is not known stays None."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgekit.devices import DeviceProfile, Sourced, load_device
from edgekit.devices.profile import Bandwidth, EngineRates, KernelPeak
from edgekit.errors import UnknownNameError
from edgekit.layout import plan_layout
from edgekit.models import spec_from_config
from edgekit.planning.engine_speed import MEASURED
from edgekit.planning.fitted import DECODE
from edgekit.planning.hardware import Hardware, default_engine, hardware_of
from edgekit.planning.latency import FIXED_US_PER_LAYER, Predictor
from edgekit.planning.memory import Dimensions
from edgekit.planning.plan import Options, plan
from edgekit.planning.work import Work, stated_work, work_of
from edgekit.recipes import load_recipe

WORK = Work(
    token_bytes=10**9,
    layers=20,
    prompt_multiply_adds=10**9,
    last_multiply_adds=10**8,
    attention_multiply_adds=10**5,
    format="4bit",
)
PI = Hardware("cpu", "raspberry-pi-5", 17.1, 307.2, False, None, (("card", 90.0),), 4)
PROBED = Hardware("cpu", "", 25.0, 300.0, True, None, (), 2)


def test_a_token_takes_its_bytes_and_a_fixed_cost_over_the_efficiency() -> None:
    predictor = Predictor(WORK, PI, "native", 1000.0)
    efficiency = DECODE.estimate(predictor._levels()).value
    expected = ((10**9 + 500 * 1000.0) / 17.1e9 + 20 * FIXED_US_PER_LAYER["cpu"] / 1e6) / efficiency
    found = predictor.decode_s(500)
    assert found is not None
    assert found.mid == pytest.approx(expected)
    rate = predictor.decode_tok_s(500)
    assert rate is not None
    assert (rate.low, rate.high) == (pytest.approx(1 / found.high), pytest.approx(1 / found.low))


@pytest.mark.parametrize("engine", ["native", "ort"])
def test_a_probed_machine_is_planned_by_its_own_figures(engine: str) -> None:
    shares = MEASURED[engine]
    predictor = Predictor(WORK, PROBED, engine, 1000.0)
    expected = 1e9 / (shares.weights * 25e9) + 1e6 / 25e9 + 20 * shares.layer_us / 1e6
    expected += 1000 * 1e5 / (shares.decode_attention * 300e9)
    found = predictor.decode_s(1000)
    assert found is not None
    assert found.mid == pytest.approx(expected)
    prompt = (128e9 + 1e8) / shares.prefill + 128 * 129 / 2 * 1e5 / shares.prefill_attention
    first = predictor.prefill_s(128)
    assert first is not None
    assert first.mid == pytest.approx(prompt / 300e9 + 128 * 20 * shares.row_us / 1e6)
    assert predictor.calibrated


def test_an_engine_that_was_measured_here_is_planned_by_its_own_rates() -> None:
    rates = EngineRates("ort", *(Sourced(value, "measured") for value in (10.0, 50.0, 5.0, 80.0, 9.0, 40.0)))
    hardware = replace(PROBED, rates=rates)
    predictor = Predictor(WORK, hardware, "ort", 1000.0)
    token, first = predictor.decode_s(1000), predictor.prefill_s(128)
    assert token is not None
    assert token.mid == pytest.approx(1e9 / 10e9 + 1e6 / 25e9 + 20 * 50e-6 + 1000 * 1e5 / 5e9)
    assert first is not None
    assert first.mid == pytest.approx((128e9 + 1e8) / 80e9 + 128 * 129 / 2 * 1e5 / 40e9 + 128 * 20 * 9e-6)


def test_the_rates_are_those_of_the_engine_asked_for() -> None:
    figures = (("native", 1.0), ("ort", 2.0))
    rates = tuple(EngineRates(name, *(Sourced(value, "measured") for _ in range(6))) for name, value in figures)
    host = load_device("cpu")
    kernel = KernelPeak("fast", Sourced(300.0, "measured"), Sourced(150.0, "measured"))
    probed = replace(
        host,
        bandwidth=Bandwidth(None, Sourced(20.0, "measured")),
        cpu=replace(host.cpu, kernels=(kernel,), engines=rates),
    )
    for found, name in zip(rates, ("native", "ort"), strict=True):
        assert hardware_of(probed, name).rates == found
    assert hardware_of(replace(probed, bandwidth=Bandwidth()), "ort").rates is None, "the KV cache has no speed"


def test_a_prompt_takes_at_least_the_time_to_read_the_weights() -> None:
    tiny = replace(WORK, prompt_multiply_adds=1, last_multiply_adds=1, attention_multiply_adds=1)
    predictor = Predictor(tiny, PI, "native", 0.0)
    assert predictor.prefill_s(1) == predictor.decode_s(0)


def test_longer_is_slower() -> None:
    for hardware in (PI, PROBED):
        predictor = Predictor(WORK, hardware, "native", 1000.0)
        seconds = [predictor.decode_s(context) for context in (0, 1, 128, 4096)]
        prompts = [predictor.prefill_s(tokens) for tokens in (1, 128, 512, 4096)]
        for found in (seconds, prompts):
            mids = [each.mid for each in found if each]
            assert len(mids) == 4
            assert mids == sorted(mids)


def test_what_is_not_known_is_none() -> None:
    nothing = Predictor(WORK, replace(PI, bandwidth_gb_s=None), "native", 0.0).predict(100, 10, 1000)
    assert (nothing.ttft_s, nothing.decode_tok_s, nothing.calibrated) == (None, None, False)
    no_clock = Predictor(WORK, replace(PI, arithmetic_gmac_s=None), "native", 0.0).predict(100, 10, 1000)
    assert no_clock.ttft_s is None
    assert no_clock.decode_tok_s is not None


def test_loading_and_heat() -> None:
    hot = Predictor(WORK, replace(PI, sustained_share=0.6), "native", 0.0).predict(100, 10, 90 * 10**6)
    assert hot.load_s == (("card", pytest.approx(1.0)),)
    assert hot.decode_tok_s is not None
    assert hot.sustained_tok_s is not None
    assert hot.sustained_tok_s.mid == pytest.approx(0.6 * hot.decode_tok_s.mid)


def test_an_uncalibrated_device_says_so() -> None:
    for name, calibrated in (("pi", True), ("jetson", True), ("iphone-15-pro", False), ("apple-m1", False)):
        assert plan(load_recipe("smollm2-135m"), load_device(name)).latency.calibrated is calibrated


def test_the_engine_decides_what_it_runs_on() -> None:
    jetson, pi = load_device("jetson"), load_device("pi")
    assert (default_engine(jetson), default_engine(pi)) == ("ort", "native")
    assert hardware_of(jetson, "ort").processor == "shared-gpu"
    assert hardware_of(jetson, "ort").arithmetic_gmac_s == 33 * 500
    assert hardware_of(jetson, "native").processor == "cpu"
    assert hardware_of(load_device("rtx-3060"), "ort").processor == "gpu"
    assert hardware_of(pi, "ort").processor == "cpu"
    assert hardware_of(pi, "native").arithmetic_gmac_s == pytest.approx(4 * 2.4 * 32)


def test_small_cores_count_half() -> None:
    phone = hardware_of(load_device("snapdragon-8-gen-3"), "native")
    assert phone.arithmetic_gmac_s == pytest.approx((3.3 + 3 * 3.2 + 2 * 3.0 + 2 * 2.3 / 2) * 64)


def test_where_fixed_costs_are_much_of_a_token_the_interval_is_wider() -> None:
    large, tiny = (Predictor(replace(WORK, token_bytes=size), PI, "native", 0.0).decode_s(0) for size in (10**9, 10**6))
    assert large is not None
    assert tiny is not None
    assert tiny.high / tiny.low > 1.5 * large.high / large.low


def test_a_power_mode_slows_down() -> None:
    small, jetson = load_recipe("deepseek-r1-distill-qwen-1.5b"), load_device("jetson")
    full, saving = (plan(small, jetson, options=Options(power_mode=mode)).latency for mode in (None, "15W"))
    assert full.decode_tok_s is not None
    assert saving.decode_tok_s is not None
    assert saving.decode_tok_s.mid < 0.75 * full.decode_tok_s.mid
    with pytest.raises(UnknownNameError, match=r"no power mode '15 W'; did you mean 15W"):
        plan(small, jetson, options=Options(power_mode="15 W"))


def _probed(device: DeviceProfile) -> DeviceProfile:
    """The laptop as ``edgekit probe`` would write it."""
    rate = Sourced(300.0, "edgekit probe")
    peak = KernelPeak("avx2", rate, rate)
    bandwidth = Bandwidth(sustained=Sourced(25.0, "edgekit probe"))
    return replace(device, bandwidth=bandwidth, cpu=replace(device.cpu, kernels=(peak,), fitted_as=""))


def test_a_profile_of_probe_counts_as_measured() -> None:
    laptop = _probed(load_device("laptop"))
    found = hardware_of(laptop, "native")
    assert (found.measured, found.bandwidth_gb_s, found.arithmetic_gmac_s) == (True, 25.0, 300.0)
    latency = plan(load_recipe("smollm2-135m"), laptop).latency
    assert latency.calibrated
    assert latency.decode_tok_s is not None
    assert latency.decode_tok_s.high / latency.decode_tok_s.low < 1.25, "narrower than any published figure allows"


def test_the_work_of_a_token_by_hand() -> None:
    recipe = load_recipe("smollm2-135m")
    spec = spec_from_config(recipe.config)
    found = work_of(spec, plan_layout(spec, recipe.quantization, "float32", 1), recipe.quantization)
    layer = 576 * (576 + 2 * 192 + 576) + 3 * 576 * 1536
    assert found.prompt_multiply_adds == 30 * layer - 3 * 576 * 1536, "the last layer's is for the last token only"
    assert found.last_multiply_adds == 49152 * 576 + 3 * 576 * 1536
    assert found.attention_multiply_adds == 2 * 30 * 9 * 64
    codes = 30 * layer * (0.5 + 4 / 32 + 0.5 / 32) + 49152 * 576 * (1 + 4 / 32)
    assert found.token_bytes == pytest.approx(codes, rel=0.003)


def test_the_experts_that_are_not_asked_are_not_read() -> None:
    config = load_recipe("deepseek-r1-671b").config
    found = stated_work(config, Dimensions.of_latent_attention(config), 4.5)
    assert found.prompt_multiply_adds + found.last_multiply_adds == pytest.approx(37e9, rel=0.03)
    assert found.token_bytes == pytest.approx(37e9 * 4.5 / 8, rel=0.03)


def test_every_number_is_finite_on_every_device() -> None:
    for name in ("pi", "jetson", "phone", "laptop", "rtx-4090", "jetson-nano-4gb"):
        latency = plan(load_recipe("deepseek-r1-671b"), load_device(name)).latency
        for interval in (latency.ttft_s, latency.decode_tok_s, latency.decode_full_tok_s):
            assert interval is None or math.isfinite(interval.high)
