"""The part of a device that an engine runs on."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgekit.devices import DeviceProfile, Sourced, device_names, load_device
from edgekit.devices.profile import Bandwidth, EngineRates, KernelPeak
from edgekit.planning.engine_speed import measured_speed
from edgekit.planning.engines import find_engine
from edgekit.planning.hardware import MULTIPLY_ADDS_PER_CYCLE, accelerator_bytes, hardware_of, power_mode_note
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planned_engine import PlannedEngine
from edgekit.planning.planner import plan
from edgekit.recipes import load_recipe

NATIVE, ORT, CUDA, WEBGPU = map(find_engine, ("native", "ort", "cuda", "webgpu"))


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
    for found, engine in zip(rates, (NATIVE, ORT), strict=True):
        assert hardware_of(probed, engine).speed == measured_speed(found)
    assert hardware_of(replace(probed, bandwidth=Bandwidth()), ORT).speed is None, "the KV cache has no speed"


def test_the_engine_decides_what_it_runs_on() -> None:
    jetson, pi = load_device("jetson"), load_device("pi")
    assert hardware_of(jetson, CUDA).processor == hardware_of(jetson, WEBGPU).processor == "shared-gpu"
    assert hardware_of(jetson, CUDA).arithmetic_gmac_s == 33 * 500
    assert hardware_of(jetson, WEBGPU).arithmetic_gmac_s == 2.09 * 500, "shaders do not use the matrix units"
    assert hardware_of(jetson, WEBGPU, "15W").arithmetic_gmac_s == pytest.approx(2.09 * 500 * 20 / 33)
    assert hardware_of(jetson, ORT).processor == "cpu"
    assert hardware_of(jetson, NATIVE).processor == "cpu"
    assert hardware_of(load_device("rtx-3060"), CUDA).processor == "gpu"
    assert hardware_of(load_device("rtx-3060"), NATIVE).bandwidth_gb_s is None, "the profile has the card's"
    assert hardware_of(pi, ORT).processor == "cpu"
    assert hardware_of(pi, NATIVE).arithmetic_gmac_s == pytest.approx(4 * 2.4 * 32)


def test_cores_draw_less_than_a_memory_that_was_chosen_for_the_graphics() -> None:
    orin = load_device("jetson-agx-orin-64gb")
    assert hardware_of(orin, CUDA).bandwidth_gb_s == 204.8
    assert hardware_of(orin, NATIVE).bandwidth_gb_s == pytest.approx(45 / 0.8)
    assert hardware_of(orin, NATIVE, "15W").bandwidth_gb_s <= 45 / 0.8
    pi = load_device("pi")
    assert hardware_of(pi, NATIVE).bandwidth_gb_s == 17.1


@pytest.mark.parametrize("name", device_names())
@pytest.mark.parametrize("engine", [NATIVE, CUDA, WEBGPU], ids=lambda engine: engine.name)
def test_no_power_mode_is_faster_than_one_with_more_power(name: str, engine: PlannedEngine) -> None:
    device = load_device(name)
    modes = sorted(device.power_modes, key=lambda mode: mode.watts.value if mode.watts else math.inf)
    found = [hardware_of(device, engine, mode) for mode in (*(mode.name for mode in modes), None)]
    for figures in ([each.bandwidth_gb_s or 0 for each in found], [each.arithmetic_gmac_s or 0 for each in found]):
        if any(mode.int8_tops_dense and mode.int8_tops_dense.value > _full_tops(device) for mode in modes):
            figures.pop()  # the device's figures are those of a lower mode
        assert figures == sorted(figures)


def _full_tops(device: DeviceProfile) -> float:
    tops = device.accelerator.int8_tops_dense if device.accelerator else None
    return tops.value if tops else math.inf


def test_a_mode_without_figures_is_told() -> None:
    jetson, orin = load_device("jetson"), load_device("jetson-agx-orin-64gb")
    for device, mode, processor, told in (
        (jetson, "7W", "shared-gpu", True), (jetson, "25W", "shared-gpu", True), (jetson, "15W", "shared-gpu", False),
        (jetson, "15W", "cpu", True), (jetson, "MAXN_SUPER", "cpu", False), (jetson, None, "cpu", False),
        (orin, "15W", "shared-gpu", False), (orin, "30W", "shared-gpu", True), (orin, "MAXN", "cpu", False),
    ):  # fmt: skip
        note = power_mode_note(device, processor, mode)
        assert bool(note) == told, (device.name, mode, processor)
        assert not note or f"how slow the power mode {mode} is" in note
    assert (
        power_mode_note(jetson, "cpu", "7W")
        in plan("smollm2-135m", jetson, options=PlanOptions(power_mode="7W")).caveats
    )


def test_dense_cores_are_no_small_ones() -> None:
    laptop = hardware_of(load_device("laptop-ryzen-ai-340"), NATIVE)
    clusters = load_device("laptop-ryzen-ai-340").cpu.clusters
    whole = sum(each.cores.value * each.clock_ghz.value for each in clusters if each.clock_ghz)
    assert laptop.arithmetic_gmac_s == pytest.approx(whole * MULTIPLY_ADDS_PER_CYCLE["avx512_vnni"])


def test_small_cores_count_half() -> None:
    phone = hardware_of(load_device("snapdragon-8-gen-3"), NATIVE)
    assert phone.arithmetic_gmac_s == pytest.approx((3.3 + 3 * 3.2 + 2 * 3.0 + 2 * 2.3 / 2) * 64)


def _probed(device: DeviceProfile) -> DeviceProfile:
    """The laptop as ``edgekit probe`` would write it."""
    rate = Sourced(300.0, "edgekit probe")
    peak = KernelPeak("avx2", rate, rate)
    bandwidth = Bandwidth(sustained=Sourced(25.0, "edgekit probe"))
    return replace(device, bandwidth=bandwidth, cpu=replace(device.cpu, kernels=(peak,), fitted_as=""))


def test_a_profile_of_probe_counts_as_measured() -> None:
    laptop = _probed(load_device("laptop"))
    found = hardware_of(laptop, NATIVE)
    assert (found.bandwidth_gb_s, found.arithmetic_gmac_s) == (25.0, 300.0)
    assert NATIVE.shares is not None
    assert found.speed == NATIVE.shares.speed(25.0, 300.0)
    assert hardware_of(laptop, replace(NATIVE, shares=None)).speed is None
    latency = plan(load_recipe("smollm2-135m"), laptop).latency
    assert latency.calibrated
    assert latency.decode_tok_s is not None
    assert latency.decode_tok_s.high / latency.decode_tok_s.low < 1.25, "narrower than any published figure allows"


def test_the_accelerators_libraries_count_where_it_runs_the_graph() -> None:
    jetson, pi = load_device("jetson"), load_device("pi")
    assert jetson.accelerator is not None
    assert jetson.accelerator.runtime is not None
    assert accelerator_bytes(jetson, CUDA) == jetson.accelerator.runtime.value
    assert accelerator_bytes(replace(jetson, accelerator=None), CUDA) == 0, "unknown"
    assert accelerator_bytes(jetson, NATIVE) is accelerator_bytes(pi, ORT) is None
