"""What a device gets: every profile's target is known here, or refused with the next step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.deploy.compile import Compiled
from edgekit.deploy.device_files import device_files
from edgekit.deploy.targets import TARGETS, Target
from edgekit.devices import all_devices, load_device
from edgekit.devices.profile import TARGETS as KNOWN
from edgekit.errors import BundleError


class Compiler:
    """Records what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, target: Target) -> Compiled:
        self.asked.append(target.name)
        folder = Path(target.name)
        return Compiled(target, folder / target.library, folder / "edgekit-run", (folder / "edgekit.h",))


def test_each_target_can_be_named_in_a_profile() -> None:
    assert {target.name for target in TARGETS} <= set(KNOWN)
    assert all(device.target for device in all_devices())


@pytest.mark.parametrize(
    ("device", "asked", "library"),
    [
        ("jetson", ["musl-aarch64", "linux-aarch64"], "linux-aarch64/libedgekit_native.so"),
        ("laptop-i7-12700h", ["musl-x86_64", "linux-x86_64"], "linux-x86_64/libedgekit_native.so"),
        ("apple-m1", ["macos-arm64"], "macos-arm64/libedgekit_native.dylib"),
        ("pixel-9", ["musl-aarch64"], None),
    ],
)
def test_a_device_gets_a_static_program_and_the_library_it_can_load(
    device: str, asked: list[str], library: str | None
) -> None:
    compiler = Compiler()
    found = device_files(load_device(device), compiler)
    assert compiler.asked == asked
    assert found.target.name == asked[0]
    assert found.program == Path(asked[0], "edgekit-run")
    assert (found.library and found.library.as_posix()) == library
    assert bool(found.headers) == (library is not None) == (not found.notes)


def test_what_cannot_be_compiled_for_is_refused() -> None:
    with pytest.raises(BundleError, match="cannot compile for ios-arm64; it can for linux-x86_64"):
        device_files(load_device("iphone-15-pro"), Compiler())
    unknown = replace(load_device("jetson"), target="")
    with pytest.raises(BundleError, match="its profile does not say what to compile for") as caught:
        device_files(unknown, Compiler())
    assert "target = " in caught.value.hint
