"""Writes a device profile as the TOML file that :func:`~edgekit.devices.reader.read_device` reads back unchanged.

Fields are in the order of the dataclasses. A figure is ``{ value = ..., source = "..." }`` on one line. Each part is a
table. Unknown figures are left out. The device's name is the file's and is not written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from .profile import Bytes, DeviceProfile, Sourced


def format_device(profile: DeviceProfile, comment: str = "") -> str:
    """The text of a profile's file.

    Args:
        profile: The profile.
        comment: Lines to put at the top, without ``#``. They may name files whose names are not UTF-8.
    """
    comment = comment.encode(errors="backslashreplace").decode()  # TOML is UTF-8
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return "\n".join([head, *_table("", profile)] if head else _table("", profile)) + "\n"


def _table(name: str, value: Any) -> Iterator[str]:
    """The lines of a dataclass: its own keys, then its tables."""
    hints = get_type_hints(type(value))
    tables: list[tuple[str, Any]] = []
    for f in fields(value):
        item = getattr(value, f.name)
        if item == f.default or (not name and f.name == "name"):  # unknown is None, the default
            continue
        if isinstance(item, tuple) and is_dataclass(get_args(hints[f.name])[0]):
            tables += [(f"[[{name}{f.name}]]", part) for part in item]
        elif is_dataclass(item) and not isinstance(item, Sourced):
            tables.append((f"[{name}{f.name}]", item))
        else:
            yield f"{f.name} = {_value(hints[f.name], item)}"
    for header, part in tables:
        lines = list(_table(header.strip("[]") + ".", part))
        if lines:
            yield from ("", header, *lines)


def _value(hint: Any, value: Any) -> str:
    if isinstance(value, Sourced):
        note = f", note = {_text(value.note)}" if value.note else ""
        return f"{{ value = {_value(_figure(hint), value.value)}, source = {_text(value.source)}{note} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(_text(item) for item in value)}]"
    if isinstance(value, str):
        return _text(value)
    return f'"{value} B"' if hint is Bytes else repr(value)


def _figure(hint: Any) -> Any:
    """The type inside ``Sourced[...]`` or ``Sourced[...] | None``."""
    inner = hint if get_origin(hint) is Sourced else next(h for h in get_args(hint) if get_origin(h) is Sourced)
    return get_args(inner)[0]


def _text(value: str) -> str:
    """A basic string. TOML's escapes are those of JSON, and DEL needs one too (https://toml.io/en/v1.0.0#string)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
