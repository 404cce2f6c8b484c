"""Every device that comes with edgekit, and how one is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices import DeviceProfile, all_devices, device_names, load_device, registry
from edgekit.errors import DeviceProfileError, UnknownNameError

FILES = sorted(Path(__file__).parents[2].joinpath("devices").glob("*.toml"), key=lambda path: path.stem)


def test_the_library_is_the_folder() -> None:
    assert device_names() == tuple(path.stem for path in FILES)
    assert [device.name for device in all_devices()] == [path.stem for path in FILES]
    assert len(FILES) == 32, "the 31 devices of the survey and this host"


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_every_device_loads_and_every_number_has_a_source(name: str) -> None:
    device = load_device(name)
    figures = dict(device.sourced())
    assert {"memory.total", "memory.usable", "cpu.isa", "context"} <= set(figures)
    for figure in figures.values():
        assert len(figure.source) >= 5
    assert {"budget.ttft_s", "budget.decode_tok_s"} <= set(figures)
    if device.kind != "host":
        assert device.bandwidth.theoretical is not None
        assert device.cpu.clusters or device.cpu.cores is None


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_the_float_type_suits_the_engine(name: str) -> None:
    device = load_device(name)
    first = device.execution_providers[0]
    capability = device.accelerator.compute_capability if device.accelerator else None
    on_nvidia = capability is not None and first != "CPUExecutionProvider"
    assert device.activation_type == ("float16" if on_nvidia else "float32")
    assert device.execution_providers[-1] == "CPUExecutionProvider" or first == "CPUExecutionProvider"


def test_the_aliases_of_the_command_line() -> None:
    assert load_device("jetson").name == "jetson-orin-nano"
    assert load_device("pi").name == "raspberry-pi-5-8gb"
    assert load_device("phone").name == "snapdragon-8-gen-3"
    assert load_device("laptop").name == "laptop-16gb"
    assert load_device("cpu").kind == "host"
    assert registry.LIBRARY.alias_names()["jetson"] == "jetson-orin-nano"


def test_a_device_is_found_by_its_path_too(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_bytes((registry.LIBRARY.folder() / "laptop-16gb.toml").read_bytes())
    assert load_device(copy).name == "mine"
    assert isinstance(load_device(str(copy)), DeviceProfile)


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no device 'jetsn'; did you mean jetson"):
        load_device("jetsn")
    with pytest.raises(UnknownNameError, match="raspberry-pi-5-8gb"):
        load_device("raspberry-pi-5")


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "edgekit" / "devices"
    folder.mkdir(parents=True)
    return folder


def _mine(alias: str) -> str:
    text = (registry.LIBRARY.folder() / "laptop-16gb.toml").read_text(encoding="utf-8")
    return text.replace('["laptop"]', f'["{alias}"]')


def test_the_users_own_devices_are_found_by_name_and_alias(user_folder: Path) -> None:
    (user_folder / "my-board.toml").write_text(_mine("desk"), encoding="utf-8")
    assert load_device("desk").name == load_device("my-board").name == "my-board"
    assert "my-board" in device_names()
    assert registry.device_file("my-board") == user_folder / "my-board.toml"


def test_a_users_device_may_not_take_anothers_name_or_alias(user_folder: Path) -> None:
    mine = user_folder / "my-board.toml"
    mine.write_text(_mine("pi"), encoding="utf-8")
    with pytest.raises(DeviceProfileError, match=r"alias 'pi' of raspberry-pi-5-8gb\.toml already means my-board"):
        load_device("pi")
    mine.unlink()
    (user_folder / "cpu.toml").write_text(_mine("x"), encoding="utf-8")
    with pytest.raises(DeviceProfileError, match=r"cpu\.toml has the name of a device that comes with edgekit"):
        device_names()


def test_a_relative_config_folder_is_ignored_as_the_specification_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert registry.user_folder() == Path.home() / ".config" / "edgekit" / "devices"
