"""A request of ``/v1/chat/completions``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..runtime.logprobs import MOST_ALTERNATIVES
from ..runtime.response_format import Grammar, grammar_of
from .answer_request import AnswerRequest, read_answer_request
from .fields import Fields
from .request_error import RequestError

# Tokens of a thought for each effort; None is limited only by max_tokens and the context. R1's distills think for 500
# to 5000 tokens on the problems of MATH (DeepSeek-R1, arXiv:2501.12948, section 4).
EFFORTS: Mapping[str, int | None] = {
    "none": 1, "minimal": 128, "low": 512, "medium": 2048, "high": None, "xhigh": None,
}  # fmt: skip
_ROLES = ("system", "developer", "user", "assistant")
_FORMATS = ("text", "json_object", "json_schema")
_TOOLS = "this server does not support tools yet"


@dataclass(frozen=True)
class ChatRequest:
    """A conversation to be answered.

    Attributes:
        answer: How to answer.
        messages: The messages for the chat template, oldest first.
        variables: Further variables of the chat template.
        think_tokens: The most tokens of a thought; None is limited only by the context.
        wants_thought: Whether the request speaks about the thought, which only a reasoning model has.
    """

    answer: AnswerRequest
    messages: list[dict[str, Any]]
    variables: Mapping[str, Any]
    think_tokens: int | None
    wants_thought: bool


def read_chat_request(value: Any) -> ChatRequest:
    """Check a request.

    Args:
        value: The JSON value of its body.

    Raises:
        RequestError: A field is wrong, unknown, or not supported.
    """
    fields = Fields(value)
    messages = read_messages(fields)
    think_tokens = fields.whole("think_tokens", 1)
    effort = fields.choice("reasoning_effort", tuple(EFFORTS))
    if think_tokens is not None and effort is not None:
        raise RequestError("give either think_tokens or reasoning_effort, not both", param="reasoning_effort")
    variables = fields.any("chat_template_kwargs")
    if variables is not None and not isinstance(variables, dict):
        fields.fail("chat_template_kwargs", "an object with variables of the model's chat template")
    limits = [fields.whole(name, 1) for name in ("max_completion_tokens", "max_tokens")]
    _refuse_unsupported(fields)
    answer = read_answer_request(fields, min((each for each in limits if each is not None), default=None))
    answer = replace(answer, logprobs=_logprobs(fields), grammar=_grammar(fields))
    fields.finish()
    return ChatRequest(
        answer=answer,
        messages=messages,
        variables=variables or {},
        think_tokens=EFFORTS[effort] if effort is not None else think_tokens,
        wants_thought=think_tokens is not None or effort not in (None, "none"),
    )


def _logprobs(fields: Fields) -> int | None:
    wanted = fields.flag("logprobs")
    top = fields.whole("top_logprobs", 0, MOST_ALTERNATIVES)
    if top and not wanted:
        raise RequestError("top_logprobs is only allowed with logprobs: true", param="top_logprobs")
    return (top or 0) if wanted else None


def _grammar(fields: Fields) -> Grammar | None:
    value = fields.any("response_format")
    if value is None:
        return None
    Fields(value, "response_format").choice("type", _FORMATS)
    if "type" not in value:
        raise RequestError("response_format.type is missing", param="response_format.type")
    try:
        return grammar_of(value)
    except ValueError as error:
        raise RequestError(str(error), param="response_format") from None


def _refuse_unsupported(fields: Fields) -> None:
    for name in ("tools", "functions"):
        fields.only(name, ([],), _TOOLS)
    for name in ("tool_choice", "function_call"):
        fields.only(name, ("none", "auto"), _TOOLS)
    fields.ignore("parallel_tool_calls", "prediction")
    fields.only("modalities", (["text"],), "this server only generates text")
    fields.only("audio", (), "this server only generates text")
    fields.only("web_search_options", (), "this server does not search")
    fields.only("verbosity", ("medium",), "this server does not support it")


def read_messages(fields: Fields) -> list[dict[str, Any]]:
    """The field ``messages``, as chat templates take it.

    Raises:
        RequestError: A message is wrong, or has something that is not supported.
    """
    value = fields.any("messages")
    if not isinstance(value, list) or not value:
        fields.fail("messages", "a list of at least one message")
    return [_message(Fields(message, f"messages[{number}]")) for number, message in enumerate(value)]


def _message(fields: Fields) -> dict[str, Any]:
    role = fields.text("role")
    if role == "tool":
        raise RequestError(f"{fields.path('role')} is tool; {_TOOLS}", param=fields.path("role"))
    if role not in _ROLES:
        fields.fail("role", "one of: " + ", ".join(_ROLES))
    message: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": _content(fields)}
    for name in ("name", "reasoning_content"):
        text = fields.text(name)
        if text is not None:
            message[name] = text
    for name in ("tool_calls", "annotations"):
        fields.only(name, ([],), _TOOLS)
    for name in ("audio", "function_call", "refusal"):
        fields.only(name, (), "this server does not support it")
    fields.finish(("content", "role"))
    return message


def _content(fields: Fields) -> str | list[dict[str, str]]:
    """The text of a message, or OpenAI's list of parts, which the chat template takes or gets joined."""
    value = fields.any("content")
    if isinstance(value, list) and value:
        parts = (Fields(part, f"{fields.path('content')}[{number}]") for number, part in enumerate(value))
        return [{"type": "text", "text": _part(part)} for part in parts]
    text = fields.text("content") if value is None or isinstance(value, str) else None
    if text is None:
        fields.fail("content", 'a string, or a list of parts such as {"type": "text", "text": "..."}')
    return text


def _part(fields: Fields) -> str:
    fields.only("type", ("text",), "this server only reads text")
    text = fields.text("text")
    if text is None:
        fields.fail("text", "a string")
    fields.ignore("cache_control")
    fields.finish()
    return text
