"""What ``edgekit plan`` says about models and devices that cannot be planned as requested, and about its own files."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from edgekit.cli import _plan_picture
from edgekit.cli.plan import command
from edgekit.devices import device_names
from edgekit.errors import EngineError, UnknownNameError
from edgekit.recipes.registry import LIBRARY


def _run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(command, arguments)


def test_json_gives_each_recipe_that_is_left_out_its_reason() -> None:
    shown = json.loads(_run("--device", "laptop", "--context", "40000", "--json").stdout)
    assert shown["refused"]["smollm2-135m"] == "at most 8192 tokens"
    assert sorted([*shown["refused"], *(planned["model"] for planned in shown["plans"])]) == sorted(LIBRARY.names())


def test_a_table_of_all_devices_names_those_that_are_left_out() -> None:
    words = ("r1-1.5b", "--all-devices", "--power-mode", "15W")
    result = _run(*words, "--json")
    shown = json.loads(result.stdout)
    assert "has no power mode '15W'" in shown["refused"]["apple-m1"]
    assert sorted([*shown["refused"], *(planned["device"] for planned in shown["plans"])]) == sorted(device_names())
    assert "left out, because they cannot be planned as requested: apple-m1, " in _run(*words).stderr
    assert "left out" not in _run("r1-1.5b", "--all-devices").stderr


def test_a_power_mode_that_no_device_has() -> None:
    found = _run("smollm2-135m", "--all-devices", "--power-mode", "nope").exception
    assert isinstance(found, UnknownNameError)
    assert "no device has a power mode 'nope'; known: 10W, " in found.message
    found = _run("smollm2-135m", "--all-devices", "--power-mode", "15W", "--prompt-tokens", "9000").exception
    assert isinstance(found, EngineError)
    assert found.message.startswith("no device can be planned as requested; for example, ")


def test_no_other_machine_is_named_where_only_a_limit_of_the_user_is_missed() -> None:
    words = ("smollm2-135m", "--device", "pi", "--max-memory", "100MB")
    assert "This model needs" not in _run(*words).stdout
    assert json.loads(_run(*words, "--json").stdout)["needs"] is None
    larger = ("deepseek-r1-distill-qwen-14b", "--device", "pi", "--max-memory", "100MB")
    assert "This model needs a machine with 16 GB" in _run(*larger).stdout


@pytest.mark.parametrize("words", ["smollm2-135m --device jetson", "--device jetson", "smollm2-135m --all-devices"])
def test_json_is_one_object_if_the_picture_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def full(*arguments: object) -> None:
        raise click.ClickException("no space left on device")

    monkeypatch.setattr(_plan_picture, "write_picture", full)
    result = _run(*words.split(), "--json", "--plot", str(tmp_path / "plan.svg"))
    assert result.exit_code == 1
    assert result.stdout == "", "the object is the error's alone"
    assert "no space left on device" in result.stderr
