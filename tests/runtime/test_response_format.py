"""Formats of answers: what each means as a grammar, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from edgekit.errors import MissingPackageError
from edgekit.runtime import response_format as module
from edgekit.runtime.response_format import Choice, Grammar, Regex, grammar_of, parsed

SCHEMA = {"type": "object", "properties": {"people": {"type": "integer"}}, "required": ["people"]}


@dataclass
class City:
    name: str
    people: int


class Country(BaseModel):
    name: str


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, Grammar(schema={"type": "object"})),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            Grammar(schema=SCHEMA),
        ),
        (SCHEMA, Grammar(schema=SCHEMA)),
        (Choice(("yes", "no.")), Grammar(regex=r"(yes)|(no\.)")),
        (Regex("[0-9]+"), Grammar(regex="[0-9]+")),
    ],
)
def test_formats_are_grammars(given: Any, expected: Grammar | None) -> None:
    assert grammar_of(given) == expected


def test_classes_have_schemas_and_parse_answers() -> None:
    for kind, names in ((City, ["name", "people"]), (Country, ["name"])):
        grammar = grammar_of(kind)
        assert grammar is not None
        assert grammar.schema is not None
        assert list(grammar.schema["properties"]) == names
    assert parsed(City, '{"name": "Rome", "people": 2800000}') == City("Rome", 2800000)
    assert parsed(Country, '{"name": "Italy"}') == Country(name="Italy")
    with pytest.raises(ValueError, match="people"):
        parsed(City, '{"name": "Rome"}')


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("json", "response_format is 'json'; allowed: a JSON schema"),
        (str, "response_format is the class str; allowed: pydantic models and dataclasses"),
        ({"type": "json_schema"}, "but no schema"),
        ({"type": "json_schema", "json_schema": {"schema": "x"}}, "but no schema"),
    ],
)
def test_other_formats_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grammar_of(given)


@pytest.mark.parametrize("texts", ["yes", (), ("a", ""), ("a", 1), ("a", "\ud800")])
def test_a_choice_needs_texts(texts: Any) -> None:
    with pytest.raises(ValueError, match="choice"):
        Choice(texts)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (5, "the pattern of a Regex is 5; it must be text"),
        ("a\udc80", "not valid Unicode: it has a lone surrogate at position 1"),
        ("a\\", "ends with a backslash"),
        ("\\\\\\", "ends with a backslash"),
        ("(?x) a # first\n b", "turns on verbose mode (x) and has a line break; write it on one line"),
        ("a(?ix-s: b\n)", "turns on verbose mode"),
        ("[(]\\((?x)\n", "turns on verbose mode"),
    ],
)
def test_a_pattern_is_text_with_whole_escapes(pattern: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Regex(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "a\\\\",
        "(?x) a # b",
        "a\n(?i-x:b)",
        "(?P<x>a\n)",
        "\\(?x)\n",
        "[(?x)]\n",
        "[^](?x)]\n",
        "[\\](?x)]\n",
        pytest.param("[" * 100_000 + "\n", id="long"),
    ],
)
def test_other_patterns_are_taken(pattern: str) -> None:
    assert Regex(pattern).pattern == pattern


def test_a_pattern_may_have_slashes_and_line_breaks() -> None:
    assert Grammar(regex="a/b\\/c\n").lark(after_thought=False) == "start: answer\nanswer: body\nbody: /a\\/b\\/c\\n/\n"
    schema = Grammar(schema=SCHEMA).lark(after_thought=True)
    assert schema.startswith("start: /[ \\n\\r\\t]{0,4}/ answer\nanswer: body\n")
    assert json.loads(schema.split("%json ")[1]).items() >= SCHEMA.items()


def test_line_breaks_of_a_choice_are_line_breaks() -> None:
    grammar = grammar_of(Choice(["a\nb", "c\\nd", "\\/"]))
    assert grammar is not None
    lines = grammar.lark(after_thought=False).splitlines()
    assert lines[2:] == [r"body: /(a\nb)|(c\\nd)|(\\\/)/"]


def test_a_class_needs_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError) as caught:
        grammar_of(City)
    assert "edgekit-llm[structured]" in caught.value.hint
