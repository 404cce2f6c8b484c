"""The fitted constants."""

from __future__ import annotations

import pytest

from edgekit.devices import all_devices
from edgekit.planning.efficiency import EfficiencyModel, Levels
from edgekit.planning.fitted import DECODE, PREFILL


def test_the_devices_classes_are_those_of_the_fit() -> None:
    unknown = {"", "iphone-cpu", "jetson-volta"}  # nothing was published of these
    for device in all_devices():
        for fitted_as in (device.cpu.fitted_as, device.accelerator.fitted_as if device.accelerator else ""):
            seen = {key.partition(" on ")[0] for key in DECODE.effects["class"]}
            assert fitted_as in seen or fitted_as in unknown, device.name


def test_an_engine_may_do_well_on_one_kind_of_device_alone() -> None:
    """Both share the system's memory. With one effect for both, llama.cpp was predicted twice too fast on a Jetson."""
    apple, jetson = (
        DECODE.estimate(Levels("shared-gpu", name, "ggml", "4bit-k")) for name in ("apple-metal", "jetson")
    )
    assert jetson.value < 0.8 * apple.value
    others = (DECODE.estimate(Levels("shared-gpu", "jetson", name, "4bit")).value for name in ("mlc", "tensorrt"))
    assert min(others) > DECODE.estimate(Levels("shared-gpu", "jetson", "ggml", "4bit")).value


def test_more_rows_make_a_class_more_certain() -> None:
    classes = DECODE.effects["class"]
    assert classes["raspberry-pi-5 on cpu"].rows > 20 > classes["mini-pc on cpu"].rows
    assert classes["raspberry-pi-5 on cpu"].variance < classes["mini-pc on cpu"].variance
    unknown = DECODE.effects["processor"]["cpu"].variance + DECODE.prior_variances["class"]["cpu"]
    assert classes["mini-pc on cpu"].variance < unknown


def test_onnxruntime_on_a_jetson_is_not_claimed_to_be_known() -> None:
    assert "onnxruntime on shared-gpu" not in DECODE.effects["engine"]


@pytest.mark.parametrize("model", [DECODE, PREFILL])
def test_no_engine_is_expected_to_beat_the_limit_by_much(model: EfficiencyModel) -> None:
    for key in model.effects["class"]:
        fitted_as, _, processor = key.partition(" on ")
        for engine in ("native", "onnxruntime", "ggml"):
            assert model.estimate(Levels(processor, fitted_as, engine, "4bit")).value < 1.2
