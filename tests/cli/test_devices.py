"""``edgekit devices``: the table, and one device with its sources."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from invoke import Invoke
from receipts import JETSON, receipt

from edgekit.cli import devices
from edgekit.devices import DeviceProfile, device_names, load_device
from edgekit.devices.registry import LIBRARY
from edgekit.errors import DeviceProfileError, UnknownNameError


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(devices.command, arguments)


def test_the_table_has_every_device_and_alias() -> None:
    text = _run().stdout
    for word in (*device_names(), *LIBRARY.alias_names()):
        assert word in text


def test_json_lists_them_with_sources() -> None:
    listed = json.loads(_run("--json").stdout)["devices"]
    assert [device["name"] for device in listed] == list(device_names())
    assert all(device["memory"]["usable"]["source"] for device in listed)


@pytest.mark.parametrize("name", device_names())
def test_one_device_shows_each_figure_and_its_source(name: str) -> None:
    text = "".join(_run(name).stdout.split())
    for key, figure in load_device(name).sourced():
        assert "".join(key.split()) in text
        assert figure.source.split()[0].rstrip(",;:")[:20] in text
    assert json.loads(_run(name, "--json").stdout)["name"] == name


def test_sizes_and_rates_have_units() -> None:
    text = _run("jetson").stdout
    for word in ("5.20 GB", "102 GB/s", "33 TOPS", "90 MB/s", "25 W", "4096 tokens"):
        assert word in text


def test_a_host_that_cannot_be_probed_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: object) -> DeviceProfile:
        if str(path).endswith("cpu.toml"):
            raise DeviceProfileError("cannot probe this host's memory")
        return load_device(path)  # type: ignore[arg-type]

    monkeypatch.setattr(devices, "load_device", load)
    assert "cannot probe" in " ".join(_run().stdout.split())
    listed = {device["name"]: device for device in json.loads(_run("--json").stdout)["devices"]}
    assert listed["cpu"]["error"].startswith("cannot probe")
    assert "memory" in listed["jetson-orin-nano"]


def test_an_unknown_device() -> None:
    assert isinstance(_run("jetso").exception, UnknownNameError)


def test_a_receipt_corrects_the_profile_that_it_contradicts(invoke: Invoke, tmp_path: Path) -> None:
    found = receipt(replace(JETSON, memory_bytes=4_100_000_000))
    found.write(tmp_path / "receipt.json")
    out = tmp_path / "mine.toml"
    assert invoke("devices", "--from-receipt", tmp_path / "receipt.json", "--out", out).exit_code == 0
    profile = load_device(out)
    assert profile.memory.total.value == 4_100_000_000
    assert "smoke test of tiny on NVIDIA Jetson Orin Nano" in profile.memory.total.source
    printed = invoke("devices", "--from-receipt", tmp_path / "receipt.json")
    assert printed.text == out.read_text()
    listed = invoke("devices", "--from-receipt", tmp_path / "receipt.json", "--json").json()
    assert [each["figure"] for each in listed["contradictions"]] == ["memory.total"]


def test_a_receipt_that_contradicts_nothing_says_so(invoke: Invoke, tmp_path: Path) -> None:
    receipt().write(tmp_path / "receipt.json")
    assert "contradicts no figure" in invoke("devices", "--from-receipt", tmp_path / "receipt.json").stderr
    receipt(device=None).write(tmp_path / "receipt.json")
    outcome = invoke("devices", "--from-receipt", tmp_path / "receipt.json")
    assert outcome.exit_code == 2
    assert "does not name a device" in outcome.stderr
    assert invoke("devices", "jetson", "--from-receipt", tmp_path / "receipt.json").exit_code == 0
    assert invoke("devices", "--out", tmp_path / "x.toml").exit_code == 2
