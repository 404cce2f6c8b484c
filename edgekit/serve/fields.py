"""Reads the fields of a JSON object. Every error names the key, the value that was found and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from ..errors import nearest
from .request_error import RequestError

_SHOWN = 60  # characters of a value in a message


class Fields:
    """An object of a request. A field that is null counts as absent.

    Args:
        value: The JSON value.
        where: The path of the object in the request: empty, or for instance ``messages[0]``.

    Raises:
        RequestError: The value is not an object.
    """

    def __init__(self, value: Any, where: str = "") -> None:
        self.where = where
        if not isinstance(value, dict):
            what = where or "the body"
            raise RequestError(f"{what} is {shown(value)}; it must be a JSON object", param=where or None)
        self._values: Mapping[str, Any] = value
        self._read: set[str] = set()

    def path(self, name: str) -> str:
        """The path of a field in the request."""
        return f"{self.where}.{name}" if self.where else name

    def fail(self, name: str, allowed: str) -> NoReturn:
        """Refuse a field's value."""
        found = f"is {shown(self._values[name])}" if name in self._values else "is missing"
        raise RequestError(f"{self.path(name)} {found}; it must be {allowed}", param=self.path(name))

    def any(self, name: str) -> Any:
        """A field's value, or None."""
        self._read.add(name)
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        """A field that holds text."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, str):
            self.fail(name, "a string")
        if not is_unicode(value):
            self.fail(name, "valid Unicode, without lone surrogates")
        return value

    def flag(self, name: str) -> bool:
        """A field that is true or false; false if it is absent."""
        value = self.any(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            self.fail(name, "true or false")
        return value

    def whole(self, name: str, least: int, most: int | None = None) -> int | None:
        """A field that holds a whole number within limits."""
        value = self.any(name)
        if value is None:
            return None
        allowed = f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}"
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < least
            or (most is not None and value > most)
        ):
            self.fail(name, allowed)
        return value

    def number(self, name: str) -> float | None:
        """A field that holds a number."""
        value = self.any(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail(name, "a number")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """A field that holds one of several words."""
        value = self.any(name)
        if value is not None and value not in allowed:
            self.fail(name, "one of: " + ", ".join(allowed))
        return None if value is None else str(value)

    def only(self, name: str, allowed: Sequence[Any], why: str) -> None:
        """Refuse a field that asks for something else than these values, all of which mean the default."""
        value = self.any(name)
        if value is not None and not any(value == each and type(value) is type(each) for each in allowed):
            raise RequestError(
                f"{self.path(name)} is {shown(value)}; {why}", param=self.path(name), code="unsupported_parameter"
            )

    def ignore(self, *names: str) -> None:
        """Accept fields that do not change the answer."""
        self._read.update(names)

    def finish(self, known: Collection[str] = ()) -> None:
        """Refuse fields that were not read: they might change the answer.

        Args:
            known: Names to suggest besides those that were read.
        """
        for name in self._values:
            if name not in self._read:
                hint = nearest(name, {*self._read, *known})
                raise RequestError(
                    f"{self.path(shown_name(name))} is not a field that this server knows; {hint}",
                    param=self.path(shown_name(name)),
                    code="unknown_parameter",
                )


def parse_json(body: bytes) -> Any:
    """Read the body of a request.

    Raises:
        RequestError: It is not JSON.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise RequestError("the body is not valid JSON: it nests too deeply") from None
    except ValueError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded: JSON's escapes can spell lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def shown(value: Any) -> str:
    """A value for a message, cut if it is long."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def shown_name(name: str) -> str:
    """A key for a message, cut if it is long."""
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
