from __future__ import annotations

from typing import Any

import pytest

from edgekit.serve.messages import MESSAGES, template_messages
from edgekit.serve.request_error import RequestError

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def read(*messages: Any) -> list[dict[str, Any]]:
    return template_messages(MESSAGES.read(list(messages), "messages"))


def test_calls_and_results_reach_the_template() -> None:
    found = read(
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "index": 0}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "x", "cache_control": {}}]},
    )
    assert found == [
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "x"}]},
    ]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "x"}, "tool_call_id"),
        ({"role": "tool", "tool_call_id": 1, "content": "x"}, "tool_call_id"),
        ({"role": "assistant"}, "content"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "content"),
        ({"role": "assistant", "tool_calls": [{}]}, "tool_calls[0].id"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, "tool_calls[0].function"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
            "tool_calls[0].function.arguments",
        ),
        ({"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}, "tool_calls[0].type"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "tool_calls"),
        ({"role": "user", "content": None}, "content"),
    ],
)
def test_a_message_that_is_not_valid(message: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(message)
    assert caught.value.param == f"messages[0].{param}"
