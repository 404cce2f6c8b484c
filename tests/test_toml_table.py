"""TOML to dataclasses: errors name the place of the problem."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import RecipeError
from edgekit.toml_table import TableReader


@dataclass(frozen=True)
class Wheel:
    size: int
    spare: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; it must be at least 1")


@dataclass(frozen=True)
class Car:
    name: str
    weight: float
    wheels: tuple[Wheel, ...]
    colour: str | None = None
    radio: Wheel | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    hidden: int = 0


READER = TableReader("car", RecipeError)
TEXT = """
weight = 1
colour = "red"
wheels = [{ size = 14 }, { size = 15, spare = true }]
[extra]
anything = [1, "two"]
"""


def _read(tmp_path: Path, text: str, **options: Any) -> Car:
    path = tmp_path / "mini.toml"
    path.write_text(text, encoding="utf-8")
    given = {"name": "mini"}
    return READER.build(Car, READER.load(path), "mini", separator=": ", given=given, hidden=("hidden",), **options)


def test_a_file_becomes_a_dataclass(tmp_path: Path) -> None:
    expected = Car("mini", 1, (Wheel(14), Wheel(15, True)), "red", extra={"anything": [1, "two"]})
    assert _read(tmp_path, TEXT) == expected
    assert _read(tmp_path, TEXT + "[radio]\nsize = 2").radio == Wheel(2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("colour", "color", "mini: unknown key 'color'; did you mean colour?"),
        ("size = 14", "sise = 14", r"mini: wheels\[0\]: unknown key 'sise'; did you mean size?"),
        ("weight = 1\n", "", "mini: lacks weight"),
        ("weight = 1\n", "weight = 1\nhidden = 2\n", "mini: unknown key 'hidden'"),
        ("weight = 1\n", "weight = 1\nname = 'x'\n", "mini: unknown key 'name'; the file's name is used"),
        ("weight = 1", "weight = 'x'", "mini: weight is 'x'; it must be a number"),
        ("weight = 1", "weight = true", "mini: weight is True; it must be a number"),
        ("size = 14", "size = 14.5", r"mini: wheels\[0\]\.size is 14.5; it must be a whole number"),
        ("spare = true", "spare = 1", r"mini: wheels\[1\]\.spare is 1; it must be true or false"),
        ('"red"', "7", "mini: colour is 7; it must be text"),
        ("[{ size = 14 }, { size = 15, spare = true }]", "4", "mini: wheels is 4; it must be a list"),
        ("{ size = 14 }", "4", r"mini: wheels\[0\] is 4; it must be a table"),
        ("[extra]\nanything", "extra", "mini: extra is .* it must be a table"),
        ("size = 14", "size = 0", r"mini: wheels\[0\]: size is 0; it must be at least 1"),
        ("weight = 1", "weight = ", "the car .*mini.toml is not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(RecipeError, match=message):
        _read(tmp_path, TEXT.replace(old, new))


def test_a_field_with_a_default_can_be_required(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="mini: lacks radio"):
        _read(tmp_path, TEXT, required=("radio",))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml cannot be read: No such file"):
        READER.load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="is not TOML"):
        READER.load(tmp_path / "binary.toml")


def test_a_type_can_be_read_in_its_own_way() -> None:
    def metres(reader: TableReader, hint: Any, value: Any, where: str) -> Wheel:
        if value == "none":
            raise reader.error(f"{where} is none")
        return Wheel(int(value.removesuffix(" m")))

    reader = TableReader("car", RecipeError, {Wheel: metres})
    assert reader.convert(Wheel, "3 m", "here") == Wheel(3)
    assert reader.convert(tuple[Wheel, ...], ["3 m", "4 m"], "here") == (Wheel(3), Wheel(4))
    with pytest.raises(RecipeError, match=r"here\[1\] is none"):
        reader.convert(tuple[Wheel, ...], ["3 m", "none"], "here")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = " + b"[" * 3000 + b"]" * 3000, "is not TOML: it nests too deeply"),
        (b"a = " + b"9" * 5000, "is not TOML"),
        (b"[a]\nb = [{c = 9223372036854775808}]", "the number of 'c' does not fit into 64 bits"),
        (b"a = 0x" + b"f" * 5000, "the number of 'a' does not fit into 64 bits"),
        (b"a = 1\n" * 200_000, "is larger than the limit of 262144 bytes"),
        (b"a = 1\n" + b"a." * 100_000 + b"b = 1", "has more than 50 dots in line 2"),
        (b'a = "\xff"', "is not TOML"),
        (b'a = "\\ud800"', "is not TOML"),
    ],
)
def test_files_that_are_too_much(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "big.toml").write_bytes(content)
    with pytest.raises(RecipeError, match=words):
        READER.load(tmp_path / "big.toml")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(RecipeError, match="it is not a regular file"):
        READER.load(tmp_path / "pipe.toml")
