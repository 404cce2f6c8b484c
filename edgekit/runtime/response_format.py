"""The formats that an answer can be held to: a JSON schema, a choice of texts, or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib.util import find_spec
from typing import Any

from ..errors import MissingPackageError
from .schema_rule import schema_rule

_WHITE = "[ \\n\\r\\t]{0,4}"  # between a thought and the answer
_JSON_WHITE = "[ \\n\\r\\t]{0,20}"  # room for indentation; without a limit, a model may write white space for ever
# Of a pattern: an escape, a set of characters, or a group with flags that are turned on.
_PARTS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]?|\(\?(?P<on>[a-zA-Z]+)(?:-[a-zA-Z]*)?[:)]", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """The answer is one of these texts.

    Args:
        texts: At least one text.

    Raises:
        ValueError: There are no texts, or one is empty, no text, or has a lone surrogate.
    """

    texts: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.texts, (str, Mapping)) or not self.texts:
            raise ValueError(f"a choice needs a sequence of texts, at least one; got {self.texts!r}")
        for text in self.texts:
            if not isinstance(text, str) or not text:
                raise ValueError(f"a text of a choice is {text!r}; it must be text and not empty")
            _check_unicode(text, "a text of a choice")


@dataclass(frozen=True)
class Regex:
    """The whole answer matches a regular expression.

    Args:
        pattern: In the syntax of Rust's crate regex (https://docs.rs/regex), which has no look-around and no
            back-references. A pattern in verbose mode, ``(?x)``, must be on one line.

    Raises:
        ValueError: The pattern is no text, has a lone surrogate, ends in the middle of an escape, or is in verbose mode
            and has a line break.
    """

    pattern: str

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise ValueError(f"the pattern of a Regex is {self.pattern!r}; it must be text")
        _check_unicode(self.pattern, "the pattern of a Regex")
        if (len(self.pattern) - len(self.pattern.rstrip("\\"))) % 2:  # it would escape the slash that ends the rule
            raise ValueError(f"the pattern of a Regex, {self.pattern!r}, ends with a backslash that escapes nothing")
        # The pattern becomes one line of a grammar, where a comment would go on to the pattern's end.
        if "\n" in self.pattern and any("x" in (part["on"] or "") for part in _PARTS.finditer(self.pattern)):
            raise ValueError(
                f"the pattern of a Regex, {self.pattern!r}, turns on verbose mode (x) and has a line break; "
                "write it on one line"
            )


# A mapping is a JSON schema, or OpenAI's response_format: {"type": "json_object"}, {"type": "json_schema", ...} or
# {"type": "text"}. A type is a pydantic model or a dataclass.
ResponseFormat = Mapping[str, Any] | type | Choice | Regex


@dataclass(frozen=True)
class Grammar:
    """What an answer must match.

    Attributes:
        schema: A JSON schema, or None.
        regex: A regular expression, or None.
        calls: Rules that define ``calls``, in llguidance's dialect of Lark (``tools.py``), or None. If there is a
            schema or a regular expression too, the answer matches one of the two.
    """

    schema: Mapping[str, Any] | None = None
    regex: str | None = None
    calls: str | None = None

    def lark(self, *, after_thought: bool) -> str:
        """The grammar in llguidance's dialect of Lark.

        Args:
            after_thought: Whether a thought may come before the answer, so that white space may open the answer.

        Raises:
            ValueError: The schema exceeds a limit.
        """
        white = f"/{_WHITE}/ " if after_thought else ""
        rules, kinds = "", []
        if self.schema is not None:
            rule = schema_rule(self.schema, _JSON_WHITE, "the JSON schema of response_format")
            rules, kinds = f"body: {rule}\n", ["body"]
        elif self.regex is not None:
            rules, kinds = f"body: /{_without_slashes(self.regex)}/\n", ["body"]
        if self.calls is not None:
            rules, kinds = rules + self.calls, [*kinds, "calls"]
        return f"start: {white}answer\nanswer: {' | '.join(kinds)}\n{rules}"


def grammar_of(response_format: ResponseFormat | None) -> Grammar | None:
    """The grammar of a format; None if any text is allowed.

    Raises:
        ValueError: The format is not one of those in :data:`ResponseFormat`.
        MissingPackageError: A class needs pydantic.
    """
    if response_format is None:
        return None
    if isinstance(response_format, Choice):
        return Grammar(regex="|".join(f"({re.escape(text)})" for text in response_format.texts))
    if isinstance(response_format, Regex):
        return Grammar(regex=response_format.pattern)
    if isinstance(response_format, type):
        return Grammar(schema=_adapter(response_format).json_schema())
    if isinstance(response_format, Mapping):
        return _of_mapping(response_format)
    raise ValueError(
        f"response_format is {response_format!r}; "
        "allowed: a JSON schema, a pydantic model or a dataclass, Choice, or Regex"
    )


def parsed(kind: type, text: str) -> Any:
    """An answer as an object of a pydantic model or a dataclass.

    Raises:
        ValueError: The answer is not valid; pydantic's error says why.
        MissingPackageError: pydantic is not installed.
    """
    return _adapter(kind).validate_json(text)


def _of_mapping(given: Mapping[str, Any]) -> Grammar | None:
    kind = given.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return Grammar(schema={"type": "object"})
    if kind != "json_schema":
        return Grammar(schema=given)
    described = given.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if not isinstance(schema, Mapping):
        raise ValueError(
            'response_format has the type "json_schema" but no schema; '
            'write {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}'
        )
    return Grammar(schema=schema)


def _adapter(kind: type) -> Any:
    if find_spec("pydantic") is None:
        raise MissingPackageError.for_extra("structured", ["pydantic"], "an answer in the form of a class")
    from pydantic import BaseModel, TypeAdapter

    if not is_dataclass(kind) and not issubclass(kind, BaseModel):
        raise ValueError(f"response_format is the class {kind.__name__}; allowed: pydantic models and dataclasses")
    return TypeAdapter(kind)


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} is not valid Unicode: it has a lone surrogate at position {error.start}") from None


def _without_slashes(pattern: str) -> str:
    """A regular expression that can stand between slashes, in one line."""
    inside = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}  # re.escape writes a line break as a backslash and the break
    return re.sub(r"\\.|/|\n", lambda found: inside.get(found[0], found[0]), pattern, flags=re.DOTALL)
