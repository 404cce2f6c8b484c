from __future__ import annotations

from typing import Any

import pytest

from edgekit.runtime.response_format import Grammar
from edgekit.serve.request_error import RequestError
from edgekit.serve.response_request import ResponseRequest, read_response_request

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


def read(**values: Any) -> ResponseRequest:
    return read_response_request({"input": "Hello", **values})


def test_a_question_and_instructions() -> None:
    assert read(instructions="Be brief.").chat.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]


def test_the_items_of_a_conversation() -> None:
    found = read(
        input=[
            {"role": "developer", "content": [{"type": "input_text", "text": "a"}]},
            {"role": "user", "content": "b", "type": "message"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "x"}]},
            {
                "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "c", "annotations": [], "logprobs": []}],
            },
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}", "id": "fc_1", "status": "done"},
            {"type": "function_call_output", "call_id": "1", "output": "d"},
            {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "e"}]},
        ]
    ).chat.messages  # fmt: skip
    assert [message["role"] for message in found] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert found[2]["tool_calls"] == [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert (found[4]["content"], found[5]["tool_call_id"]) == ("", "2")


def test_settings() -> None:
    schema = {"type": "object"}
    text = {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}}
    found = read(
        text=text, max_output_tokens=5, tools=[TOOL], reasoning={"effort": "low"}, stream=True, metadata={"a": "b"},
        temperature=0.5, stream_options={"include_obfuscation": False}, store=True, include=[], user="u",
    )  # fmt: skip
    answer = found.chat.answer
    assert (answer.max_tokens, answer.grammar, answer.stream) == (5, Grammar(schema=schema), True)
    assert found.chat.think_tokens == 512
    assert found.chat.tools is not None
    assert (found.echoed["metadata"], found.echoed["temperature"], found.echoed["text"]) == ({"a": "b"}, 0.5, text)


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "reasoning"}]}, "input"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"reasoning": {"effort": "low"}, "think_tokens": 5}, "reasoning.effort"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"n": 2}, "n"),
        ({"stop": "x"}, "stop"),
    ],
)
def test_a_wrong_field_is_refused(values: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**values)
    assert (caught.value.status, caught.value.param) == (400, param)
