from __future__ import annotations

from typing import Any

import pytest

from edgekit.serve.chat_request import CHAT, read_chat_request
from edgekit.serve.completion_request import COMPLETION, TOKENIZE, read_completion_request, read_tokenize_request
from edgekit.serve.fields import Flag, Ignored, Json, Kind, ListOf, Text, Whole, Word
from edgekit.serve.records import Field, Record, Tagged
from edgekit.serve.request_error import RequestError
from edgekit.serve.response_request import RESPONSE, read_response_request

INNER = Record("Inner", {"b": Field(Whole(1), "A number.", required=True), "c": Field(Text())})
OUTER = Record("Outer", {"a": Field(ListOf(INNER)), "d": Field(Ignored()), "e": Field(Flag())})


def test_a_record_reads_its_members_and_leaves_out_null() -> None:
    assert OUTER.read({"a": [{"b": 2.0, "c": None}], "d": object(), "e": None}) == {"a": [{"b": 2}], "d": None}


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ([], None, "the body is []; it must be a JSON object"),
        ({"a": [{}]}, "a[0].b", "a[0].b is missing"),
        ({"a": [{"b": None}]}, "a[0].b", "a[0].b is null"),
        ({"a": [{"b": 1}, {"b": 0}]}, "a[1].b", "a[1].b is 0; it must be a whole number, 1 or more"),
        ({"a": [{"b": 1, "cc": 1}]}, "a[0].cc", "a[0].cc is not a field that this server knows; did you mean c?"),
        ({"x" * 1000: 1}, "x" * 60 + "...", "is not a field"),
    ],
)
def test_a_record_names_the_place_of_an_error(value: Any, path: str | None, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        OUTER.read(value)
    assert caught.value.param == path
    assert message in caught.value.message


@pytest.mark.parametrize("kind", [Record("R"), Tagged("type", {"a": Record("A")})])
def test_a_record_is_an_object(kind: Kind) -> None:
    with pytest.raises(RequestError, match="x is 5; it must be a JSON object") as caught:
        kind.read(5, "x")
    assert (caught.value.status, caught.value.param) == (400, "x")


def test_a_tag_chooses_the_record() -> None:
    word = Field(Word(("a",)), required=True)
    kind = Tagged("type", {"a": Record("A", {"type": word}), "b": Record("B", {"type": Field(Word(("b",)))})}, "b")
    assert kind.read({"type": "a"}, "x") == {"type": "a"}
    assert kind.read({}, "x") == {"type": "b"}
    with pytest.raises(RequestError, match=r'x\.type is "c"; it must be one of: a, b'):
        kind.read({"type": "c"}, "x")
    with pytest.raises(RequestError, match=r"x\.type is \[\]"):
        kind.read({"type": []}, "x")


def test_the_schema_of_a_record_names_those_of_its_members() -> None:
    found: dict[str, Json] = {}
    assert OUTER.schema(found) == {"$ref": "#/components/schemas/Outer"}
    assert found["Inner"] == {
        "type": "object",
        "properties": {
            "b": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1, "description": "A number."},
            "c": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "additionalProperties": False,
        "required": ["b"],
    }
    assert found["Outer"]["properties"]["d"] == {}


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


STRANGE: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, 1e999, 10**400, "", "x", "\ud800", "x" * 10_000, [], [[]], {}, {"a": 1},
    [None], [1], ["x"], [{}], [{"type": "x"}], [{"role": "user"}], {"type": []}, {"type": "function"}, _deep(90),
    {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"schema": {"enum": ["\ud800"]}}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "read", "base"),
    [
        (CHAT, read_chat_request, {"messages": [{"role": "user", "content": "Hi"}]}),
        (COMPLETION, read_completion_request, {"prompt": "x"}),
        (RESPONSE, read_response_request, {"input": "x"}),
        (TOKENIZE, read_tokenize_request, {"prompt": "x"}),
    ],
    ids=["chat", "completion", "response", "tokenize"],
)
def test_any_value_of_any_field_is_read_or_refused_in_few_words(record: Record, read: Any, base: Json) -> None:
    refused: list[RequestError] = []
    for name in record.fields:
        for value in STRANGE:
            try:
                read({**base, name: value})
            except RequestError as error:
                refused.append(error)
    assert len(refused) > 10 * len(record.fields)
    for each in refused:
        assert (each.status, each.param is None, len(each.message) < 600) == (400, False, True), each.message
