"""Reads a device profile's TOML file and checks it: unknown keys, missing sources, impossible values.

The file's name is the device's. Everything that was measured, published or estimated is a ``{ value, source }`` table
with an optional ``note``; a bare number is an error, so that every figure states its source. Sizes are text such as
``"5.2 GB"``. The tables of a file are the dataclasses of ``profile.py``, field by field. With ``probe = true`` the file
has only the fields of a :class:`HostDefaults`, and the system supplies the rest (``host_profile.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from ..errors import DeviceProfileError, nearest
from ..toml_table import TableReader
from ..units import parse_bytes
from .profile import Bytes, DeviceProfile, HostDefaults, Sourced


def read_device(path: Path) -> DeviceProfile | HostDefaults:
    """Read and check a device file.

    Args:
        path: A ``.toml`` file; its stem becomes the device's name.

    Returns:
        The profile, or the defaults of a device that describes the host.

    Raises:
        DeviceProfileError: The file cannot be read, is not TOML, has unknown or missing keys, a number without a
            source, or an impossible value.
    """
    content = _READER.load(path)
    probe = content.pop("probe", False)
    if not isinstance(probe, bool):
        raise DeviceProfileError(f"{path}: probe is {probe!r}; it must be true or false")
    cls = HostDefaults if probe else DeviceProfile
    return _READER.build(cls, content, str(path), separator=": ", given={"name": path.stem})


def _sourced(reader: TableReader, hint: Any, value: Any, where: str) -> Sourced[Any]:
    example = f'{where.rpartition(".")[2].rpartition(": ")[2]} = {{ value = ..., source = "..." }}'
    if not isinstance(value, dict):
        raise DeviceProfileError(f"{where} is {value!r} without a source; write {example}")
    for key in value:
        if key not in ("value", "source", "note"):
            raise DeviceProfileError(f"{where}: unknown key {key!r}; {nearest(key, ('value', 'source', 'note'))}")
    missing = [key for key in ("value", "source") if key not in value]
    if missing:
        raise DeviceProfileError(f"{where} lacks its {' and '.join(missing)}; write {example}")
    texts = {key: reader.convert(str, value[key], f"{where}.{key}") for key in ("source", "note") if key in value}
    try:
        return Sourced(reader.convert(get_args(hint)[0], value["value"], f"{where}.value"), **texts)
    except ValueError as error:
        raise DeviceProfileError(f"{where}: {error}") from None


def _size(reader: TableReader, hint: Any, value: Any, where: str) -> Bytes:
    if not isinstance(value, str):
        raise DeviceProfileError(f'{where} is {value!r}; it must be text with a unit, such as "8 GB"')
    try:
        return Bytes(parse_bytes(value))
    except ValueError as error:
        raise DeviceProfileError(f"{where}: {error}") from None


_READER = TableReader("device profile", DeviceProfileError, {Sourced: _sourced, Bytes: _size})
