"""What the fields of a request may hold. The same definitions check requests and describe them in the OpenAPI document.

Each kind reads a JSON value, or refuses it with an error that names the key, the value and what is allowed, and writes
its JSON schema. A field that is null counts as absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from ..errors import nearest
from .request_error import RequestError

Json = dict[str, Any]
_SHOWN = 60  # characters of a value in a message


class Kind(Protocol):
    """What a field may hold."""

    def takes(self, value: Any) -> bool:
        """Whether a value is of the kind's JSON type; :meth:`read` may still refuse it."""

    def read(self, value: Any, path: str) -> Any:
        """The value, checked.

        Args:
            value: A JSON value, not null.
            path: Its place in the request, such as ``messages[0].role``.

        Raises:
            RequestError: The value is not allowed.
        """

    def schema(self, found: dict[str, Json]) -> Json:
        """The JSON schema.

        Args:
            found: Gets the schemas that this one refers to, by name.
        """


@dataclass(frozen=True)
class Text:
    """Text.

    Args:
        least: The least number of characters.
        most: The largest number.
        allowed: What messages say is allowed.
    """

    least: int = 0
    most: int | None = None
    allowed: str = "a string"

    def takes(self, value: Any) -> bool:
        return isinstance(value, str)

    def read(self, value: Any, path: str) -> str:
        if not isinstance(value, str) or len(value) < self.least or len(value) > (self.most or len(value)):
            refuse(value, path, self.allowed)
        if any("\ud800" <= character <= "\udfff" for character in value):  # JSON's escapes can spell them
            refuse(value, path, "valid Unicode, without lone surrogates")
        return value

    def schema(self, found: dict[str, Json]) -> Json:
        limits = {"minLength": self.least or None, "maxLength": self.most}
        return {"type": "string", **{name: value for name, value in limits.items() if value is not None}}


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def takes(self, value: Any) -> bool:
        return isinstance(value, bool)

    def read(self, value: Any, path: str) -> bool:
        if not isinstance(value, bool):
            refuse(value, path, "true or false")
        return value

    def schema(self, found: dict[str, Json]) -> Json:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Whole:
    """A whole number within limits."""

    least: int
    most: int = 2**63 - 1

    def takes(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def read(self, value: Any, path: str) -> int:
        if isinstance(value, float) and value % 1 == 0:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            limits = f"{self.least} or more" if self.most == 2**63 - 1 else f"from {self.least} to {self.most}"
            refuse(value, path, f"a whole number, {limits}")
        return value

    def schema(self, found: dict[str, Json]) -> Json:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Number:
    """A number within limits.

    Args:
        least: The smallest number.
        most: The largest one.
        above: Whether ``least`` itself is not allowed.
    """

    least: float
    most: float
    above: bool = False

    def takes(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def read(self, value: Any, path: str) -> float:
        valid = self.takes(value) and self.least <= value <= self.most and (value > self.least or not self.above)
        if not valid or not math.isfinite(value):
            start = f"a number above {self.least:g}" if self.above else f"a number from {self.least:g}"
            refuse(value, path, f"{start}{' and at most' if self.above else ' to'} {self.most:.3g}")
        return float(value)

    def schema(self, found: dict[str, Json]) -> Json:
        return {"type": "number", "exclusiveMinimum" if self.above else "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Word:
    """One of several words."""

    words: Sequence[str]

    def takes(self, value: Any) -> bool:
        return isinstance(value, str)

    def read(self, value: Any, path: str) -> str:
        if not isinstance(value, str) or value not in self.words:
            refuse(value, path, "one of: " + ", ".join(self.words))
        return value

    def schema(self, found: dict[str, Json]) -> Json:
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True)
class Only:
    """Nothing but values that mean the default, because the server cannot do anything else.

    Args:
        values: The values, besides null.
        why: Ends the message about another value.
    """

    values: Sequence[Any]
    why: str

    def takes(self, value: Any) -> bool:
        return True

    def read(self, value: Any, path: str) -> Any:
        if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in self.values):
            raise RequestError(f"{path} is {shown(value)}; {self.why}", param=path, code="unsupported_parameter")
        return value

    def schema(self, found: dict[str, Json]) -> Json:
        return {"enum": list(self.values)} if self.values else {"type": "null"}


@dataclass(frozen=True)
class Ignored:
    """Anything: the field does not change the answer."""

    def takes(self, value: Any) -> bool:
        return True

    def read(self, value: Any, path: str) -> None:
        return None

    def schema(self, found: dict[str, Json]) -> Json:
        return {}


@dataclass(frozen=True)
class Free:
    """An object with any members, such as a JSON schema.

    Args:
        allowed: What messages say is allowed.
    """

    allowed: str = "a JSON object"

    def takes(self, value: Any) -> bool:
        return isinstance(value, dict)

    def read(self, value: Any, path: str) -> Json:
        if not isinstance(value, dict):
            refuse(value, path, self.allowed)
        return value

    def schema(self, found: dict[str, Json]) -> Json:
        return {"type": "object"}


@dataclass(frozen=True)
class ListOf:
    """A list.

    Args:
        kind: Of its members.
        least: The least number of members.
        most: The largest number.
        allowed: What messages say is allowed.
    """

    kind: Kind
    least: int = 0
    most: int | None = None
    allowed: str = "a list"

    def takes(self, value: Any) -> bool:
        return isinstance(value, list)

    def read(self, value: Any, path: str) -> list[Any]:
        if not isinstance(value, list) or len(value) < self.least:
            refuse(value, path, self.allowed)
        if self.most is not None and len(value) > self.most:
            raise RequestError(f"{path} has {len(value)} members; at most {self.most} are read", param=path)
        return [self.kind.read(member, f"{path}[{number}]") for number, member in enumerate(value)]

    def schema(self, found: dict[str, Json]) -> Json:
        limits = {"minItems": self.least or None, "maxItems": self.most}
        named = {name: value for name, value in limits.items() if value is not None}
        return {"type": "array", "items": self.kind.schema(found), **named}


@dataclass(frozen=True)
class Either:
    """One of several kinds, which JSON's types tell apart.

    Args:
        kinds: The kinds.
        allowed: What messages say is allowed.
    """

    kinds: Sequence[Kind]
    allowed: str

    def takes(self, value: Any) -> bool:
        return any(kind.takes(value) for kind in self.kinds)

    def read(self, value: Any, path: str) -> Any:
        kind = next((kind for kind in self.kinds if kind.takes(value)), None)
        return refuse(value, path, self.allowed) if kind is None else kind.read(value, path)

    def schema(self, found: dict[str, Json]) -> Json:
        return {"anyOf": [kind.schema(found) for kind in self.kinds]}


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


def refuse(value: Any, path: str, allowed: str) -> NoReturn:
    """Refuse a value.

    Raises:
        RequestError: Always.
    """
    raise RequestError(f"{path} is {shown(value)}; it must be {allowed}", param=path)


def shown(value: Any) -> str:
    """A value for a message, cut if it is long."""
    return cut(json.dumps(value))


def cut(text: str) -> str:
    """A text for a message, cut if it is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _member(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _or_null(schema: Json) -> Json:
    if not schema or schema == {"type": "null"}:
        return schema
    return {"anyOf": [schema, {"type": "null"}]}
