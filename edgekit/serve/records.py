"""The objects in requests: which members they have, and what each may hold (``fields.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import nearest
from .fields import Json, Kind, cut, refuse, shown
from .request_error import RequestError


@dataclass(frozen=True)
class Field:
    """A member of an object.

    Args:
        kind: What it may hold.
        about: What it does, for the document.
        required: Whether it has to be there.
    """

    kind: Kind
    about: str = ""
    required: bool = False


@dataclass(frozen=True)
class Record:
    """An object with known members; others are refused, because they might change the answer.

    Args:
        name: The name of its schema.
        fields: Its members.
    """

    name: str
    fields: Mapping[str, Field] = field(default_factory=dict)

    def takes(self, value: Any) -> bool:
        return isinstance(value, dict)

    def read(self, value: Any, path: str = "") -> Json:
        """The members that are there and not null."""
        if not isinstance(value, dict):
            raise RequestError(f"{path or 'the body'} is {shown(value)}; it must be a JSON object", param=path or None)
        for name in value:
            if name not in self.fields:
                where = _member(path, cut(name))
                raise RequestError(
                    f"{where} is not a field that this server knows; {nearest(cut(name), self.fields)}",
                    param=where,
                    code="unknown_parameter",
                )
        read = {}
        for name, each in self.fields.items():
            if value.get(name) is not None:
                read[name] = each.kind.read(value[name], _member(path, name))
            elif each.required:
                allowed = getattr(each.kind, "allowed", None)
                where = _member(path, name)
                raise RequestError(
                    f"{where} is {'null' if name in value else 'missing'}"
                    + (f"; it must be {allowed}" if allowed else ""),
                    param=where,
                )
        return read

    def schema(self, found: dict[str, Json]) -> Json:
        if self.name not in found:
            found[self.name] = {}  # a schema may refer to itself
            members = {}
            for name, each in self.fields.items():
                schema = each.kind.schema(found)
                schema = schema if each.required else _or_null(schema)
                members[name] = {**schema, "description": each.about} if each.about else schema
            found[self.name] = {"type": "object", "properties": members, "additionalProperties": False}
            required = [name for name, each in self.fields.items() if each.required]
            if required:
                found[self.name]["required"] = required
        return {"$ref": f"#/components/schemas/{self.name}"}


@dataclass(frozen=True)
class Tagged:
    """One of several objects, which the word in one member tells apart.

    Args:
        tag: The member's name.
        records: The objects by word. Each has the member ``tag``.
        default: The word of an object without the member; None if it has to be there.
        why: Ends the message about another word.
    """

    tag: str
    records: Mapping[str, Record]
    default: str | None = None
    why: str = ""

    def takes(self, value: Any) -> bool:
        return isinstance(value, dict)

    def read(self, value: Any, path: str) -> Json:
        if not isinstance(value, dict):
            refuse(value, path, "a JSON object")
        word = value.get(self.tag)
        word = self.default if word is None else word
        where = _member(path, self.tag)
        if not isinstance(word, str) or word not in self.records:
            allowed = self.why or "it must be one of: " + ", ".join(self.records)
            found = f"is {shown(word)}" if word is not None else "is missing"
            raise RequestError(f"{where} {found}; {allowed}", param=where)
        return self.records[word].read(value, path) | {self.tag: word}

    def schema(self, found: dict[str, Json]) -> Json:
        return {"anyOf": [record.schema(found) for record in self.records.values()]}


def _member(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _or_null(schema: Json) -> Json:
    if not schema or schema == {"type": "null"}:
        return schema
    return {"anyOf": [schema, {"type": "null"}]}
