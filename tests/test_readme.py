"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from command_reference import parts, reference

from edgekit.devices import device_aliases, device_names
from edgekit.recipes import recipe_names

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_command_reference_is_fresh() -> None:
    assert parts()[1] == reference(), "run: python tools/command_reference.py"


def test_every_folder_named_is_there() -> None:
    named = re.findall(r"^    ([\w./]+/)\s", TEXT, re.MULTILINE)
    assert len(named) > 8
    for folder in named:
        assert (ROOT / folder).is_dir(), folder


def test_every_top_level_package_is_in_the_map() -> None:
    for path in (ROOT / "edgekit").iterdir():
        if path.is_dir() and (path / "__init__.py").is_file():
            assert f"edgekit/{path.name}/" in TEXT, path.name


def test_commands_name_models_and_devices_that_exist() -> None:
    commands = re.findall(r"edgekit (?:build|plan) ([\w.-]+) --device ([\w-]+)", TEXT)
    assert commands
    for model, device in commands:
        assert model in recipe_names() or model == "my-model.toml"
        assert device in {*device_names(), *device_aliases()}


def test_changelog_has_the_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()
