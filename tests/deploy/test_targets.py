"""The targets: what they are called, here, by zig and in a wheel's name."""

from __future__ import annotations

import pytest

from edgekit.deploy.targets import TARGETS, target_named
from edgekit.errors import UnknownNameError


def test_every_target_is_found_by_its_name() -> None:
    assert [target_named(target.name) for target in TARGETS] == list(TARGETS)


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*linux-aarch64"):
        target_named("linux-aarch46")


def test_wheels_name_what_the_library_is_linked_against() -> None:
    by_name = {target.name: target for target in TARGETS}
    assert by_name["linux-aarch64"].zig == "aarch64-linux-gnu.2.28"
    assert by_name["linux-aarch64"].wheel_platform == "manylinux_2_28_aarch64"
    assert by_name["musl-x86_64"].wheel_platform == "musllinux_1_2_x86_64"
    assert [target.name for target in TARGETS if target.is_static] == ["musl-x86_64", "musl-aarch64"]
    assert by_name["macos-arm64"].library == "libedgekit_native.dylib"
