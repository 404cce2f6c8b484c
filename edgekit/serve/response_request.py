"""A request of ``/v1/responses``, checked: OpenAI's newer form of a conversation.

https://platform.openai.com/docs/api-reference/responses. The server keeps no responses, so a conversation comes
whole in ``input``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .answer_request import COMMON, answer_request
from .chat_request import EFFORTS, SCHEMA, THOUGHT, ChatRequest, chat_request, grammar
from .fields import Either, Ignored, ListOf, Only, Text, Whole, Word
from .records import Field, Record, Tagged
from .request_error import RequestError
from .tool_request import RESPONSE_TOOLS

_NOT_KEPT = "this server keeps no responses; send the whole conversation in input"
_INPUT = "a string, or a list of at least one item"
_CONTENT = "a string, or a list of parts with text"
_IGNORED = {name: Field(Ignored()) for name in ("id", "status", "phase")}


def _part(kind: str) -> Record:
    fields = {"type": Field(Word((kind,)), required=True), "text": Field(Text(), required=True)}
    extra = {name: Field(Ignored()) for name in ("annotations", "logprobs")} if kind == "output_text" else {}
    return Record("".join(word.capitalize() for word in kind.split("_")) + "Part", {**fields, **extra})


_PARTS = Tagged(
    "type", {kind: _part(kind) for kind in ("input_text", "output_text", "text")}, why="this server only reads text"
)
_ITEM = Tagged(
    "type",
    {
        "message": Record(
            "MessageItem",
            {
                "type": Field(Word(("message",))),
                "role": Field(Word(("system", "developer", "user", "assistant")), required=True),
                "content": Field(Either((Text(), ListOf(_PARTS, least=1, allowed=_CONTENT)), _CONTENT), required=True),
                **_IGNORED,
            },
        ),
        "function_call": Record(
            "FunctionCallItem",
            {
                "type": Field(Word(("function_call",)), required=True),
                "call_id": Field(Text(), required=True),
                "name": Field(Text(1), required=True),
                "arguments": Field(Text(), "A JSON object as text.", required=True),
                **_IGNORED,
            },
        ),
        "function_call_output": Record(
            "FunctionResultItem",
            {
                "type": Field(Word(("function_call_output",)), required=True),
                "call_id": Field(Text(), required=True),
                "output": Field(Either((Text(), ListOf(_PARTS, least=1, allowed=_CONTENT)), _CONTENT), required=True),
                **_IGNORED,
            },
        ),
        "reasoning": Record(
            "ReasoningItem",
            {
                "type": Field(Word(("reasoning",)), required=True),
                "summary": Field(Ignored()),
                "content": Field(Ignored(), "Thoughts do not go back to the model."),
                "encrypted_content": Field(Ignored()),
                **_IGNORED,
            },
        ),
    },
    default="message",
)
_TEXT = Record(
    "TextSettings",
    {
        "format": Field(
            Tagged(
                "type",
                {
                    "text": Record("ResponseTextFormat", {"type": Field(Word(("text",)), required=True)}),
                    "json_object": Record("ResponseJsonFormat", {"type": Field(Word(("json_object",)), required=True)}),
                    "json_schema": Record(
                        "ResponseSchemaFormat", {"type": Field(Word(("json_schema",)), required=True), **SCHEMA}
                    ),
                },
            ),
            "What the answer has to match, after its thought.",
        ),
        "verbosity": Field(Only(("medium",), "this server does not support it")),
    },
)
_NOT_COMMON = ("stop", "n", "stream_options", "presence_penalty", "frequency_penalty", "logit_bias")
RESPONSE = Record(
    "ResponseRequest",
    {
        "input": Field(
            Either((Text(1, allowed=_INPUT), ListOf(_ITEM, least=1, allowed=_INPUT)), _INPUT),
            "A question, or the items of a conversation.",
            required=True,
        ),
        "instructions": Field(Text(), "The system's message."),
        **{name: each for name, each in COMMON.items() if name not in _NOT_COMMON},
        "max_output_tokens": Field(Whole(1), "The most tokens of the answer, with its thought."),
        "text": Field(_TEXT),
        **RESPONSE_TOOLS,
        "reasoning": Field(
            Record(
                "Reasoning",
                {
                    "effort": Field(Word(tuple(EFFORTS)), "A limit of the thought's tokens."),
                    "summary": Field(Ignored(), "The whole thought is returned."),
                    "generate_summary": Field(Ignored()),
                },
            )
        ),
        **THOUGHT,
        "include": Field(Ignored(), "Accepted and ignored."),
        "stream_options": Field(Ignored(), "Accepted and ignored."),
        "max_tool_calls": Field(Ignored(), "Concerns tools that a server runs itself, which this one has not."),
        "background": Field(Only((False,), "this server answers at once")),
        "conversation": Field(Only((), _NOT_KEPT)),
        "previous_response_id": Field(Only((), _NOT_KEPT)),
        "prompt": Field(Only((), "this server keeps no prompts")),
        "top_logprobs": Field(Only((0,), "this server reports log probabilities in /v1/chat/completions only")),
        "truncation": Field(Only(("disabled",), "this server refuses input that does not fit")),
    },
)


@dataclass(frozen=True)
class ResponseRequest:
    """A conversation to be answered.

    Attributes:
        chat: The same request as one of ``/v1/chat/completions``.
        echoed: Fields that the response repeats.
    """

    chat: ChatRequest
    echoed: Mapping[str, Any]


def read_response_request(value: Any) -> ResponseRequest:
    """Check a request.

    Args:
        value: The JSON value of its body.

    Raises:
        RequestError: A field is wrong, unknown, or not supported.
    """
    values = RESPONSE.read(value)
    given = values.get("text", {}).get("format", {"type": "text"})
    schema = {"type": "json_schema", "json_schema": given} if given["type"] == "json_schema" else given
    common = {name: each for name, each in values.items() if name != "stream_options"}
    answer = answer_request(common, values.get("max_output_tokens"), grammar=grammar(schema, "text.format"))
    answer = replace(answer, grammar_field="text.format", max_tokens_field="max_output_tokens")
    effort = values.get("reasoning", {}).get("effort")
    chat = chat_request(values, _messages(values), answer, effort, "reasoning.effort")
    echoed = {
        "instructions": values.get("instructions"),
        "max_output_tokens": values.get("max_output_tokens"),
        "metadata": metadata if isinstance(metadata := value.get("metadata"), dict) else {},
        "parallel_tool_calls": values.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": effort, "summary": None},
        "temperature": values.get("temperature"),
        "text": {"format": given},
        "tool_choice": values.get("tool_choice", "auto"),
        "tools": values.get("tools", []),
        "top_p": values.get("top_p"),
        "truncation": "disabled",
    }
    return ResponseRequest(chat, echoed)


def _messages(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items as messages. Calls belong to the message of the assistant before them."""
    found: list[dict[str, Any]] = []
    if "instructions" in values:
        found.append({"role": "system", "content": values["instructions"]})
    items = values["input"]
    if isinstance(items, str):
        return [*found, {"role": "user", "content": items}]
    for item in items:
        if item["type"] == "message":
            found.append({"role": item["role"], "content": _content(item["content"])})
        elif item["type"] == "function_call":
            call = {
                "id": item["call_id"],
                "type": "function",
                "function": {"name": item["name"], "arguments": item["arguments"]},
            }
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": ""})
            found[-1].setdefault("tool_calls", []).append(call)
        elif item["type"] == "function_call_output":
            found.append({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])})
    if not found:
        raise RequestError("input has nothing but thoughts; it must have a message", param="input")
    return found


def _content(value: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(value, str):
        return value
    return [{"type": "text", "text": part["text"]} for part in value]
