"""A written profile is read back unchanged."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.devices import DeviceProfile, Sourced, device_names, load_device
from edgekit.devices.profile import Bandwidth, Bytes, KernelPeak
from edgekit.devices.reader import read_device
from edgekit.devices.writer import format_device

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _round_trip(profile: DeviceProfile, folder: Path, comment: str = "") -> DeviceProfile:
    path = folder / f"{profile.name}.toml"
    path.write_text(format_device(profile, comment), encoding="utf-8")
    found = read_device(path)
    assert isinstance(found, DeviceProfile)
    return found


@pytest.mark.parametrize("name", device_names())
def test_every_device_of_the_library(name: str, tmp_path: Path) -> None:
    profile = load_device(name)
    assert _round_trip(profile, tmp_path) == profile


def test_measured_figures_and_odd_texts(tmp_path: Path) -> None:
    odd = 'a "quoted" \\ back\tslash,\nnew line, \x7f, \x01, 你好 = [x] # no comment'
    laptop = load_device("laptop")
    peak = KernelPeak("avx2", Sourced(1e21, odd, odd), Sourced(1.25e-7, odd))
    profile = replace(
        laptop,
        name="odd",
        title=odd,
        notes=odd,
        aliases=("x", odd),
        memory=replace(laptop.memory, usable=Sourced(Bytes(1), odd)),
        cpu=replace(laptop.cpu, kernels=(peak, replace(peak, name="scalar"))),
        bandwidth=Bandwidth(sustained=Sourced(20.5, odd), one_core=Sourced(20.5, odd)),
        storage=(),
    )
    assert _round_trip(profile, tmp_path, odd.replace("\x7f", "").replace("\x01", "")) == profile


def test_a_comment_may_name_a_file_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    profile = load_device("laptop")
    comment = "Use it: edgekit plan --device " + os.fsdecode(b"\xff.toml")
    assert _round_trip(profile, tmp_path, comment) == profile
    assert format_device(profile, comment).startswith("# Use it: edgekit plan --device \\udcff.toml\n")


def test_what_is_not_known_does_not_stand_in_the_file() -> None:
    profile = replace(load_device("laptop"), bandwidth=Bandwidth())
    content = tomllib.loads(format_device(profile))
    assert "bandwidth" not in content
    assert "name" not in content
    assert "kernels" not in content["cpu"]
    assert "note" not in content["cpu"]["cores"]
