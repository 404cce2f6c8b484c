"""Named TOML files: a name, an alias or a path means one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit.errors import RecipeError, UnknownNameError
from edgekit.library import Library


@dataclass(frozen=True)
class Entry:
    text: str
    aliases: tuple[str, ...]


def _write(folder: Path, **files: str) -> None:
    """Files whose text is their aliases, such as ``"fast" "quick"``."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")


def _read(path: Path) -> Entry:
    text = path.read_text(encoding="utf-8")
    return Entry(text, tuple(text.replace('"', "").split()))


def _aliases(entry: Entry) -> tuple[str, ...]:
    return entry.aliases


@pytest.fixture
def library(tmp_path: Path) -> Library[Entry]:
    _write(tmp_path / "built-in", bicycle='"bike"', car='"auto" "vehicle"', train="")
    return _library(tmp_path)


def _library(tmp_path: Path, read: Callable[[Path], Entry] = _read) -> Library[Entry]:
    built_in = (tmp_path / "not here", tmp_path / "built-in")
    return Library("machine", built_in, read, RecipeError, _aliases, lambda: tmp_path / "user")


def test_names_aliases_and_files(library: Library[Entry], tmp_path: Path) -> None:
    assert library.folder() == tmp_path / "built-in"
    assert library.names() == ("bicycle", "car", "train")
    assert library.alias_names() == {"bike": "bicycle", "auto": "car", "vehicle": "car"}
    assert [entry.text for entry in library.read_all()] == ['"bike"', '"auto" "vehicle"', ""]
    assert library.files()["car"] == tmp_path / "built-in" / "car.toml"


@pytest.mark.parametrize("name", ["car", "auto", "vehicle"])
def test_a_name_and_its_aliases_mean_one_file(library: Library[Entry], name: str) -> None:
    assert library.find(name).text == '"auto" "vehicle"'


def test_a_path_needs_no_name(library: Library[Entry], tmp_path: Path) -> None:
    _write(tmp_path / "else", boat='"ship"')
    path = tmp_path / "else" / "boat.toml"
    assert library.find(path) == library.find(str(path)) == Entry('"ship"', ("ship",))


def test_an_unknown_name_is_told_the_nearest(library: Library[Entry]) -> None:
    with pytest.raises(UnknownNameError, match=r"no machine 'bikes'; did you mean bike") as raised:
        library.find("bikes")
    assert raised.value.hint == "edgekit machines lists them; the path of a .toml file works too"
    for name in ("", "../built-in/car"):
        with pytest.raises(UnknownNameError):
            library.find(name)


def test_the_users_files_count_too(library: Library[Entry], tmp_path: Path) -> None:
    _write(tmp_path / "user", boat='"ship"')
    assert library.names() == ("bicycle", "boat", "car", "train")
    assert library.find("ship") == library.find("boat")


def test_a_users_file_may_not_take_a_name(library: Library[Entry], tmp_path: Path) -> None:
    _write(tmp_path / "user", car="")
    with pytest.raises(RecipeError, match=r"car\.toml has the name of a machine that comes with edgekit"):
        library.names()


@pytest.mark.parametrize(("alias", "owner"), [("bike", "bicycle"), ("train", "train")])
def test_an_alias_means_one_file(library: Library[Entry], tmp_path: Path, alias: str, owner: str) -> None:
    _write(tmp_path / "user", cart=f'"{alias}"')
    message = rf"the alias '{alias}' of \w+\.toml already means \w+"
    for ask in (lambda: library.find(alias), lambda: library.find(owner), library.alias_names):
        with pytest.raises(RecipeError, match=message):
            ask()


def test_few_files_are_read_to_find_one(library: Library[Entry], tmp_path: Path) -> None:
    read: list[str] = []

    def remember(path: Path) -> Entry:
        read.append(path.stem)
        return _read(path)

    counted = _library(tmp_path, remember)
    assert counted.find("bike").aliases == ("bike",)
    assert read == ["bicycle"]
    counted.find("bicycle")
    assert read == ["bicycle"], "a file that did not change is not read again"


def test_a_file_that_changed_is_read_again(library: Library[Entry], tmp_path: Path) -> None:
    assert library.find("train").text == ""
    path = tmp_path / "built-in" / "train.toml"
    path.write_text('"rail"', encoding="utf-8")
    changed = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(changed, changed))
    assert library.find("rail").text == '"rail"'


def test_without_aliases_only_the_name_counts(tmp_path: Path) -> None:
    _write(tmp_path / "built-in", car='"auto"')
    plain = Library("machine", (tmp_path / "built-in",), _read, RecipeError)
    assert plain.find("car").text == '"auto"'
    with pytest.raises(UnknownNameError):
        plain.find("auto")
    assert plain.alias_names() == {}


def test_a_broken_installation_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="edgekit's machines are missing: there is no folder") as raised:
        _library(tmp_path).names()
    assert raised.value.hint == "install edgekit-llm again"
