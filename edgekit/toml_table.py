"""Reads a TOML file into dataclasses and checks it: unknown keys, missing keys, wrong types, impossible values.

The tables of a file are dataclasses, field by field. A message names the file, the place in it, what was found and what
is allowed; an unknown key names the nearest known one. Recipes and device profiles are read this way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import EdgekitError, nearest
from .json_file import read_bounded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_T = TypeVar("_T")
_MAX_BYTES = 256 * 1024  # the largest file of edgekit's own has 12 kB
_MOST_DOTS = 50  # of a line; tomllib needs memory and time for the square of the levels of a key
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class TableReader:
    """Reads one kind of file.

    Args:
        what: The kind of file, for messages: ``recipe``.
        error: The error that every problem raises.
        special: A type hint, or the generic type of one, and the function that reads it. The function receives the
            reader, the hint, the value in the file and the place of the value.
    """

    what: str
    error: type[EdgekitError]
    special: Mapping[Any, Callable[[TableReader, Any, Any, str], Any]] = field(default_factory=dict)

    def load(self, path: Path) -> dict[str, Any]:
        """The content of a file.

        Raises:
            EdgekitError: The file cannot be read or is not TOML; an instance of ``error``.
        """
        content = read_bounded(path, _MAX_BYTES, self.error)
        for number, line in enumerate(content.splitlines(), 1):
            if line.count(b".") > _MOST_DOTS:
                raise self.error(
                    f"the {self.what} {path} has more than {_MOST_DOTS} dots in line {number}; keys nest less deep"
                )
        try:
            table = tomllib.loads(content.decode("utf-8"))
        except RecursionError:
            raise self.error(f"the {self.what} {path} is not TOML: it nests too deeply") from None
        except ValueError as error:  # UnicodeDecodeError and TOMLDecodeError, or a number of thousands of digits
            raise self.error(f"the {self.what} {path} is not TOML: {error}") from None
        if (key := _large_number(table)) is not None:
            raise self.error(f"the {self.what} {path} is not TOML: the number of {key!r} does not fit into 64 bits")
        return table

    def build(
        self,
        cls: type[_T],
        value: Any,
        where: str,
        *,
        separator: str = ".",
        given: Mapping[str, Any] | None = None,
        required: Collection[str] = (),
        hidden: Collection[str] = (),
    ) -> _T:
        """Make a dataclass from a table.

        Args:
            cls: The dataclass.
            value: The table.
            where: Its place: the file, then the keys that lead to it.
            separator: What stands between ``where`` and a key.
            given: Fields that are not in the file, and their values.
            required: Fields that the file must contain although they have a default.
            hidden: Fields that the file must not contain.

        Raises:
            EdgekitError: The table is invalid; an instance of ``error``.
        """
        table, given = self.table(value, where), given or {}
        hints, needed = _fields(cls)  # type: ignore[arg-type]  # a class is hashable
        for key in given:
            if key in table:
                raise self.error(f"{where}: unknown key {key!r}; the file's name is used")
        known = {key: needed[key] or key in required for key in hints if key not in given and key not in hidden}
        for key in table:
            if key not in known:
                raise self.error(f"{where}: unknown key {key!r}; {nearest(key, known)}")
        missing = [key for key, is_needed in known.items() if is_needed and key not in table]
        if missing:
            raise self.error(f"{where}: lacks {', '.join(missing)}")
        values = {key: self.convert(hints[key], item, f"{where}{separator}{key}") for key, item in table.items()}
        try:
            return cls(**given, **values)
        except ValueError as error:
            raise self.error(f"{where}: {error}") from None

    def convert(self, hint: Any, value: Any, where: str) -> Any:
        """Check a value against a field's type and convert it.

        Raises:
            EdgekitError: The value has another type; an instance of ``error``.
        """
        origin = get_origin(hint)
        read = self.special.get(hint) or self.special.get(origin)
        if read is not None:
            return read(self, hint, value, where)
        if origin in (Union, UnionType):
            return self.convert(next(h for h in get_args(hint) if h is not NoneType), value, where)
        if origin is tuple:
            if not isinstance(value, list):
                raise self.error(f"{where} is {value!r}; it must be a list")
            return tuple(self.convert(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if origin is Mapping:
            return self.table(value, where)
        if is_dataclass(hint):
            return self.build(hint, value, where)  # type: ignore[arg-type]
        accepted = (int, float) if hint is float else (hint,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
            raise self.error(f"{where} is {value!r}; it must be {_WORDS[hint]}")
        return value

    def table(self, value: Any, where: str) -> dict[str, Any]:
        """Check that a value is a table.

        Raises:
            EdgekitError: It is not; an instance of ``error``.
        """
        if not isinstance(value, dict):
            raise self.error(f"{where} is {value!r}; it must be a table")
        return value


@cache
def _fields(cls: Any) -> tuple[dict[str, Any], dict[str, bool]]:
    """The type of each field of a dataclass, and whether it has no default."""
    required = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(cls)}
    return get_type_hints(cls), required


def _large_number(table: dict[str, Any]) -> str | None:
    """The key of a whole number that TOML does not allow, for a float cannot be compared with all of them."""
    pending: list[tuple[str, Any]] = list(table.items())
    while pending:  # not recursive: keys with dots nest as deep as a file is long
        key, value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.items())
        elif isinstance(value, list):
            pending.extend((key, item) for item in value)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            return key
    return None
