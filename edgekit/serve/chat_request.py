"""A request of ``/v1/chat/completions``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..runtime.chat import check_variables
from ..runtime.logprobs import MOST_ALTERNATIVES
from ..runtime.response_format import Grammar, grammar_of
from ..runtime.tools import Tools
from .answer_request import COMMON, AnswerRequest, answer_request
from .fields import Flag, Free, Ignored, Only, Text, Whole, Word
from .messages import MESSAGES, template_messages
from .records import Field, Record, Tagged
from .request_error import RequestError
from .tool_request import CHAT_TOOLS, requested_tools

# Tokens of a thought for each effort; None is limited only by max_tokens and the context. R1's distills think for 500
# to 5000 tokens on the problems of MATH (DeepSeek-R1, arXiv:2501.12948, section 4).
EFFORTS: Mapping[str, int | None] = {
    "none": 1, "minimal": 128, "low": 512, "medium": 2048, "high": None, "xhigh": None,
}  # fmt: skip
_TEXT_ONLY = "this server only generates text"
_UNSUPPORTED = "this server does not support it; use tools"
SCHEMA: Mapping[str, Field] = {
    "name": Field(Text()),
    "description": Field(Text()),
    "schema": Field(Free("a JSON schema"), required=True),
    "strict": Field(Flag(), "The schema always holds."),
}
_FORMAT = Tagged(
    "type",
    {
        "text": Record("TextFormat", {"type": Field(Word(("text",)), required=True)}),
        "json_object": Record("JsonFormat", {"type": Field(Word(("json_object",)), required=True)}),
        "json_schema": Record(
            "SchemaFormat",
            {
                "type": Field(Word(("json_schema",)), required=True),
                "json_schema": Field(Record("NamedSchema", SCHEMA), required=True),
            },
        ),
    },
)
THOUGHT: Mapping[str, Field] = {
    "think_tokens": Field(Whole(1), "The most tokens of the thought, which is then closed; the answer follows."),
    "chat_template_kwargs": Field(
        Free("an object with variables of the model's chat template"), "Variables of the model's chat template."
    ),
}
CHAT = Record(
    "ChatCompletionRequest",
    {
        "messages": Field(MESSAGES, "The conversation, oldest message first.", required=True),
        **COMMON,
        "max_tokens": Field(Whole(1), "The most tokens of an answer, with its thought."),
        "max_completion_tokens": Field(Whole(1), "As max_tokens; the smaller one counts."),
        "logprobs": Field(Flag(), "Report the log probability of the answer's tokens."),
        "top_logprobs": Field(Whole(0, MOST_ALTERNATIVES), "With as many of the most likely tokens."),
        "response_format": Field(_FORMAT, "What the answer has to match, after its thought."),
        **CHAT_TOOLS,
        "reasoning_effort": Field(Word(tuple(EFFORTS)), "A limit of the thought's tokens; instead of think_tokens."),
        **THOUGHT,
        "functions": Field(Only(([],), _UNSUPPORTED)),
        "function_call": Field(Only(("none", "auto"), _UNSUPPORTED)),
        "prediction": Field(Ignored(), "Accepted and ignored."),
        "modalities": Field(Only((["text"],), _TEXT_ONLY)),
        "audio": Field(Only((), _TEXT_ONLY)),
        "web_search_options": Field(Only((), "this server does not search")),
        "verbosity": Field(Only(("medium",), "this server does not support it")),
    },
)


@dataclass(frozen=True)
class ChatRequest:
    """A conversation to be answered.

    Attributes:
        answer: How to answer.
        messages: The messages for the chat template, oldest first.
        variables: Further variables of the chat template.
        think_tokens: The most tokens of a thought; None is limited only by the context.
        wants_thought: Whether the request speaks about the thought, which only a reasoning model has.
        tools: The functions that the model may call; None if there are none.
    """

    answer: AnswerRequest
    messages: list[dict[str, Any]]
    variables: Mapping[str, Any]
    think_tokens: int | None
    wants_thought: bool
    tools: Tools | None = None


def read_chat_request(value: Any) -> ChatRequest:
    """Check a request.

    Args:
        value: The JSON value of its body.

    Raises:
        RequestError: A field is wrong, unknown, or not supported.
    """
    values = CHAT.read(value)
    limits = [name for name in ("max_tokens", "max_completion_tokens") if name in values]
    limit = min(limits, key=lambda name: values[name], default="max_tokens")
    if values.get("top_logprobs") and not values.get("logprobs"):
        raise RequestError("top_logprobs is only allowed with logprobs: true", param="top_logprobs")
    answer = answer_request(
        values,
        values.get(limit),
        logprobs=values.get("top_logprobs", 0) if values.get("logprobs") else None,
        grammar=grammar(values.get("response_format"), "response_format"),
    )
    answer = replace(answer, max_tokens_field=limit)
    return chat_request(values, values["messages"], answer, values.get("reasoning_effort"), "reasoning_effort")


def chat_request(
    values: Mapping[str, Any], messages: list[dict[str, Any]], answer: AnswerRequest, effort: str | None, param: str
) -> ChatRequest:
    """A request with fields that other requests for a conversation's answer have too.

    Args:
        values: Its fields, checked.
        messages: Its messages.
        answer: How to answer.
        effort: One of :data:`EFFORTS`, or None.
        param: The path of the effort.

    Raises:
        RequestError: Two fields contradict each other, or a variable of the chat template is not allowed.
    """
    variables = values.get("chat_template_kwargs", {})
    try:
        check_variables(variables)
    except ValueError as error:
        raise RequestError(f"chat_template_kwargs: {error}", param="chat_template_kwargs") from None
    think_tokens = values.get("think_tokens")
    if think_tokens is not None and effort is not None:
        raise RequestError(f"give either think_tokens or {param}, not both", param=param)
    return ChatRequest(
        answer=answer,
        messages=template_messages(messages),
        variables=variables,
        think_tokens=EFFORTS[effort] if effort is not None else think_tokens,
        wants_thought=think_tokens is not None or effort not in (None, "none"),
        tools=requested_tools(values),
    )


def grammar(value: Mapping[str, Any] | None, param: str) -> Grammar | None:
    """The format of an answer.

    Args:
        value: In the form of ``response_format``.
        param: The path of the field.

    Raises:
        RequestError: It is not a format.
    """
    try:
        return grammar_of(value)
    except ValueError as error:
        raise RequestError(str(error), param=param) from None
