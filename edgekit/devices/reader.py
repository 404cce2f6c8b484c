"""Reads a device profile's TOML file and checks it: unknown keys, missing sources, impossible values.

The file's name is the device's. Whatever somebody measured, published or estimated is a ``{ value, source }`` table,
with an optional ``note``; a bare number is an error, so no figure enters without saying where it is from. Sizes are
text such as ``"5.2 GB"``. The tables of a file are the dataclasses of ``profile.py``, field by field; with
``probe = true`` it holds only the fields of a :class:`HostDefaults`, and ``probe.py`` finds the rest.
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import DeviceProfileError, nearest
from ..units import parse_bytes
from .profile import Bytes, DeviceProfile, HostDefaults, Sourced

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_T = TypeVar("_T")


def read_device(path: Path) -> DeviceProfile | HostDefaults:
    """Read and check a device file.

    Args:
        path: A ``.toml`` file; its stem becomes the device's name.

    Returns:
        The profile, or the defaults of a device that is to be probed.

    Raises:
        DeviceProfileError: The file cannot be read, is not TOML, has unknown or missing keys, a number without a
            source, or an impossible value.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeviceProfileError(f"cannot read the device profile {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeviceProfileError(f"the device profile {path} is not TOML: {error}") from None
    probe = content.pop("probe", False)
    if not isinstance(probe, bool):
        raise DeviceProfileError(f"{path}: probe is {probe!r}; it must be true or false")
    if "name" in content:
        raise DeviceProfileError(f"{path}: unknown key 'name'; the file's name is the device's")
    cls = HostDefaults if probe else DeviceProfile
    return _build(cls, {"name": path.stem, **content}, str(path), separator=": ")


def _build(cls: type[_T], value: Any, where: str, separator: str = ".") -> _T:
    """Make a dataclass from a table of the file; ``where`` names the table in messages."""
    if not isinstance(value, dict):
        raise DeviceProfileError(f"{where} is {value!r}; it must be a table")
    hints, known = _fields(cls)  # type: ignore[arg-type]  # a class is hashable
    for key in value:
        if key not in known:
            raise DeviceProfileError(f"{where}: unknown key {key!r}; {nearest(key, set(known) - {'name'})}")
    missing = [key for key, required in known.items() if required and key not in value]
    if missing:
        raise DeviceProfileError(f"{where}: lacks {', '.join(missing)}")
    values = {key: _convert(hints[key], item, f"{where}{separator}{key}") for key, item in value.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise DeviceProfileError(f"{where}: {error}") from None


@cache
def _fields(cls: Any) -> tuple[dict[str, Any], dict[str, bool]]:
    """The types of a dataclass's fields, and whether each must be given."""
    return get_type_hints(cls), {f.name: f.default is MISSING for f in fields(cls)}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check a value of the file against a field's type and turn it into that."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _convert(next(h for h in get_args(hint) if h is not NoneType), value, where)
    if origin is Sourced:
        return _sourced_value(get_args(hint)[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise DeviceProfileError(f"{where} is {value!r}; it must be a list")
        return tuple(_convert(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if is_dataclass(hint):
        return _build(hint, value, where)  # type: ignore[arg-type]
    if hint is Bytes:
        return _size(value, where)
    words = {int: "a whole number", float: "a number", str: "text"}
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise DeviceProfileError(f"{where} is {value!r}; it must be {words[hint]}")
    return value


def _sourced_value(hint: Any, value: Any, where: str) -> Sourced[Any]:
    example = f'{where.rpartition(".")[2].rpartition(": ")[2]} = {{ value = ..., source = "..." }}'
    if not isinstance(value, dict):
        raise DeviceProfileError(f"{where} is {value!r} without a source; write {example}")
    for key in value:
        if key not in ("value", "source", "note"):
            raise DeviceProfileError(f"{where}: unknown key {key!r}; {nearest(key, ('value', 'source', 'note'))}")
    missing = [key for key in ("value", "source") if key not in value]
    if missing:
        raise DeviceProfileError(f"{where} lacks its {' and '.join(missing)}; write {example}")
    texts = {key: _convert(str, value[key], f"{where}.{key}") for key in ("source", "note") if key in value}
    try:
        return Sourced(_convert(hint, value["value"], f"{where}.value"), **texts)
    except ValueError as error:
        raise DeviceProfileError(f"{where}: {error}") from None


def _size(value: Any, where: str) -> Bytes:
    if not isinstance(value, str):
        raise DeviceProfileError(f'{where} is {value!r}; it must be text with a unit, such as "8 GB"')
    try:
        return Bytes(parse_bytes(value))
    except ValueError as error:
        raise DeviceProfileError(f"{where}: {error}") from None
