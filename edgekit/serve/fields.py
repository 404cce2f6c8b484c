"""The values that fields of a request may have. The same definitions check requests and describe them in the OpenAPI
document; ``records.py`` makes objects of them.

Each kind reads a JSON value, or refuses it with an error that names the key, the value and what is allowed, and writes
its JSON schema. A field that is null counts as absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

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
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON's escapes can spell them
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
