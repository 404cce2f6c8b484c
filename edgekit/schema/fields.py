"""The types of values in files from outside, and the check of a table against them. Needs only the standard library.

check_table({"eps": 1e30}, {"eps": Number(1e-12, 0.1)}, "config.json", CheckpointError)
-> CheckpointError: config.json: eps is 1e+30; it must be a number from 1e-12 to 0.1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..errors import EdgekitError

_SHOWN = 60  # characters of a value in a message
_INT32 = 2**31 - 1


class Field(ABC):
    """What one value may be."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """The values that are allowed, in words that follow "it must be"."""

    @abstractmethod
    def accepts(self, value: object) -> bool:
        """Whether the value itself is allowed; what is inside it is checked by :meth:`problems`."""

    def problems(self, value: object, place: str) -> Iterator[str]:
        """What is wrong with a value and with everything inside it, one sentence each.

        Args:
            value: The value.
            place: The keys that lead to it.
        """
        if not self.accepts(value):
            yield f"{place} is {shown(value)}; it must be {self.allowed}"


@dataclass(frozen=True)
class Whole(Field):
    """A whole number from ``low`` to ``high``."""

    low: int = 1
    high: int = _INT32

    @property
    def allowed(self) -> str:
        return str(self.low) if self.low == self.high else f"a whole number from {self.low} to {self.high}"

    def accepts(self, value: object) -> bool:
        return type(value) is int and self.low <= value <= self.high


@dataclass(frozen=True)
class Number(Field):
    """A finite number from ``low`` to ``high``; with ``above``, ``low`` itself is not allowed."""

    low: float
    high: float
    above: bool = False

    @property
    def allowed(self) -> str:
        if self.above:
            return f"a number above {self.low:g} and at most {self.high:g}"
        return f"a number from {self.low:g} to {self.high:g}"

    def accepts(self, value: object) -> bool:
        if type(value) not in (int, float) or not self.low <= value <= self.high:  # type: ignore[operator]
            return False
        return not self.above or value != self.low


@dataclass(frozen=True)
class Truth(Field):
    """True or false."""

    @property
    def allowed(self) -> str:
        return "true or false"

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Text(Field):
    """Text of at most ``longest`` characters, or one of the texts in ``choices``."""

    choices: tuple[str, ...] = ()
    longest: int = 1_000_000

    @property
    def allowed(self) -> str:
        return (
            f"one of {', '.join(map(repr, self.choices))}"
            if self.choices
            else f"text of at most {self.longest} characters"
        )

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and len(value) <= self.longest and (not self.choices or value in self.choices)


@dataclass(frozen=True)
class FileName(Field):
    """The name of a file or folder, as :func:`is_file_name` defines it."""

    longest: int = 10_000

    @property
    def allowed(self) -> str:
        return f"a file name of at most {self.longest} printable characters, without / and \\"

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and len(value) <= self.longest and is_file_name(value)


def is_file_name(text: str) -> bool:
    """Whether a text names a file in a folder: printable characters without / and \\, and neither "." nor ".."."""
    return text.strip(" .") != "" and text.isprintable() and not set(text) & set("/\\")


@dataclass(frozen=True)
class Items(Field):
    """A list of ``least`` to ``most`` values of one kind."""

    of: Field
    least: int = 0
    most: int = 1_000_000

    @property
    def allowed(self) -> str:
        size = f" with at least {self.least}" if self.least else ""
        return f"a list of at most {self.most} values{size}"

    def accepts(self, value: object) -> bool:
        return isinstance(value, (list, tuple)) and self.least <= len(value) <= self.most

    def problems(self, value: object, place: str) -> Iterator[str]:
        yield from super().problems(value, place)
        if isinstance(value, (list, tuple)) and self.accepts(value):
            for number, item in enumerate(value):
                yield from self.of.problems(item, f"{place}[{number}]")


@dataclass(frozen=True)
class Table(Field):
    """An object.

    Args:
        fields: The keys that are known, and what each may be.
        required: Keys that must be there.
        others: What the values of all other keys may be; None allows anything.
        nulls: Whether null stands for a key that is not there.
    """

    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    others: Field | None = None
    nulls: bool = False

    @property
    def allowed(self) -> str:
        return "an object"

    def accepts(self, value: object) -> bool:
        return isinstance(value, Mapping)

    def problems(self, value: object, place: str) -> Iterator[str]:
        yield from super().problems(value, place)
        if not isinstance(value, Mapping):
            return
        prefix = "" if not place else f"{place}: " if place.endswith("'") else f"{place}."
        for key in self.required:
            if key not in value or (self.nulls and value[key] is None):
                yield f"{place or 'it'} lacks {key}"
        for key, item in value.items():
            field, where = self.fields.get(key), f"{prefix}{key}"
            if field is None and self.others is not None:
                field, where = self.others, f"{place} {shown(key)}".lstrip()
            if field is not None and not (self.nulls and item is None):
                yield from field.problems(item, where)


@dataclass(frozen=True)
class Optional(Field):
    """A value, or null."""

    of: Field

    @property
    def allowed(self) -> str:
        return f"{self.of.allowed}, or null"

    def accepts(self, value: object) -> bool:
        return value is None or self.of.accepts(value)

    def problems(self, value: object, place: str) -> Iterator[str]:
        if value is not None and not self.of.accepts(value):
            yield f"{place} is {shown(value)}; it must be {self.allowed}"
        elif value is not None:
            yield from self.of.problems(value, place)


@dataclass(frozen=True)
class Either(Field):
    """A value of one of two kinds."""

    one: Field
    other: Field

    @property
    def allowed(self) -> str:
        return f"{self.one.allowed}, or {self.other.allowed}"

    def accepts(self, value: object) -> bool:
        return self.one.accepts(value) or self.other.accepts(value)

    def problems(self, value: object, place: str) -> Iterator[str]:
        if not self.accepts(value):
            yield f"{place} is {shown(value)}; it must be {self.allowed}"
        else:
            yield from (self.one if self.one.accepts(value) else self.other).problems(value, place)


def check_table(
    value: object, table: Mapping[str, Field] | Table, what: str, error: type[EdgekitError], hint: str = ""
) -> None:
    """Check an object that a file holds.

    Args:
        value: The object.
        table: What its keys may be. With a mapping, null stands for a key that is not there, as in transformers' files.
        what: The file, and the place in it, for messages.
        error: What to raise.
        hint: The next step for the user.

    Raises:
        EdgekitError: A value is not allowed; an instance of ``error``. The message names the file, the key, the value
            and what is allowed.
    """
    field = table if isinstance(table, Table) else Table(table, nulls=True)
    for problem in field.problems(value, ""):
        raise error(f"{what}: {problem}" if not problem.startswith("it lacks") else f"{what} {problem[3:]}", hint)


def shown(value: object) -> str:
    """A value for a message, shortened."""
    if isinstance(value, (Mapping, list, tuple)) and len(value) > _SHOWN:
        kind = "an object" if isinstance(value, Mapping) else "a list"
        return f"{kind} of {len(value)} values"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}..."
