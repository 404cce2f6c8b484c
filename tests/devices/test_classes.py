"""The classes that ``fitted_as`` may name are those with published speeds and those of the devices."""

from __future__ import annotations

import pytest

from edgekit.devices import all_devices
from edgekit.devices.classes import CLASSES, check_class
from edgekit.planning.fitted import DECODE, PREFILL
from edgekit.planning.latency import CLASS_US_PER_LAYER


def test_every_class_is_known_and_used() -> None:
    names = {name.rpartition(" on ")[0] for model in (DECODE, PREFILL) for name in model.effects["class"]}
    names |= {name for _, name in CLASS_US_PER_LAYER}
    for device in all_devices():
        names |= {device.cpu.fitted_as, device.accelerator.fitted_as if device.accelerator else ""}
    assert sorted(names - {""}) == sorted(CLASSES)


def test_a_class_that_is_not_known_is_refused() -> None:
    check_class("")
    check_class("raspberry-pi-5")
    with pytest.raises(ValueError, match="fitted_as is 'raspberry-pi5'; did you mean raspberry-pi-5 or raspberry-pi-4"):
        check_class("raspberry-pi5")
