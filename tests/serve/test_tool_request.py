from __future__ import annotations

from typing import Any

import pytest

from edgekit.serve.records import Record
from edgekit.serve.request_error import RequestError
from edgekit.serve.tool_request import CHAT_TOOLS, RESPONSE_TOOLS, requested_tools

F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
G = {"type": "function", "function": {"name": "required"}}


def read(**values: Any) -> Any:
    return requested_tools(Record("R", CHAT_TOOLS).read(values))


def test_tools_as_templates_take_them() -> None:
    found = read(tools=[F, G], parallel_tool_calls=False)
    assert found.definitions[0] == {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert (found.choice, found.parallel) == ("auto", False)
    assert (read(), read(tools=[]), read(tools=[F], tool_choice="none")) == (None, None, None)


def test_a_function_that_has_to_be_called() -> None:
    assert read(tools=[F, G], tool_choice={"type": "function", "function": {"name": "f"}}).choice == "f"
    named = read(tools=[F, G], tool_choice={"type": "function", "function": {"name": "required"}})
    assert (named.choice, [each["name"] for each in named.functions]) == ("required", ["required"])


def test_the_form_of_responses() -> None:
    values = {
        "tools": [{"type": "function", "name": "f", "strict": False}],
        "tool_choice": {"type": "function", "name": "f"},
    }
    found = requested_tools(Record("R", RESPONSE_TOOLS).read(values))
    assert found is not None
    assert (found.definitions, found.choice) == (({"type": "function", "function": {"name": "f"}},), "f")


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a\nb"}}]}, "tools"),
        ({"tools": [F, F]}, "tools"),
        ({"tools": [F] * 129}, "tools"),
        ({"tools": [F], "tool_choice": "f"}, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_what_is_not_valid_is_refused(values: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**values)
    assert caught.value.param == param
