from __future__ import annotations

from typing import Any

import pytest

from edgekit.runtime.response_format import Grammar
from edgekit.serve.chat_request import EFFORTS, ChatRequest, read_chat_request
from edgekit.serve.request_error import RequestError

HELLO = [{"role": "user", "content": "Hello"}]


def read(**values: Any) -> ChatRequest:
    return read_chat_request({"messages": HELLO, **values})


def test_messages_as_clients_send_them() -> None:
    found = read(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
            {"role": "assistant", "content": "c", "refusal": None, "tool_calls": None, "annotations": []},
        ]
    ).messages
    assert found == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
        {"role": "assistant", "content": "c"},
    ]


def test_the_smaller_limit_counts() -> None:
    assert read(max_tokens=5, max_completion_tokens=3).answer.max_tokens == 3
    assert read().answer.max_tokens is None


def test_an_effort_is_a_budget_of_the_thought() -> None:
    for effort, tokens in EFFORTS.items():
        assert read(reasoning_effort=effort).think_tokens == tokens
    assert (read(think_tokens=7).think_tokens, read(think_tokens=7).wants_thought) == (7, True)
    assert (read(reasoning_effort="none").wants_thought, read().wants_thought) == (False, False)
    assert read(chat_template_kwargs={"enable_thinking": False}).variables == {"enable_thinking": False}


def test_log_probabilities_and_a_format() -> None:
    assert read(logprobs=True).answer.logprobs == 0
    assert read(logprobs=True, top_logprobs=4).answer.logprobs == 4
    assert (read(logprobs=False).answer.logprobs, read(response_format={"type": "text"}).answer.grammar) == (None, None)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    found = read(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert found.answer.grammar == Grammar(schema=schema)


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "\udc00"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": "x", "extra": 1}]}, "messages[0].extra"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].id"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"think_tokens": 0}, "think_tokens"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"reasoning_effort": "low", "think_tokens": 5}, "reasoning_effort"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"logprobs": 1}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs"),
        *(({"chat_template_kwargs": {n: []}}, "chat_template_kwargs") for n in ("messages", "tools", "documents")),
        ({"chat_template_kwargs": {"a": ["\ud800"]}}, "chat_template_kwargs"),
        ({"prompt": "x"}, "prompt"),
    ],
)
def test_a_wrong_field_is_refused(values: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**values)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param.rpartition(".")[2] in caught.value.message
