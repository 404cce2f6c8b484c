"""A request of ``/v1/completions``, which continues a text, and one of ``/tokenize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .answer_request import AnswerRequest, read_answer_request
from .chat_request import read_messages
from .fields import Fields
from .request_error import RequestError

DEFAULT_TOKENS = 16  # of OpenAI's API where a completion's request has no max_tokens


@dataclass(frozen=True)
class CompletionRequest:
    """A text to be continued.

    Attributes:
        answer: How to continue it.
        prompt: The text, or its token ids.
    """

    answer: AnswerRequest
    prompt: str | list[int]


@dataclass(frozen=True)
class TokenizeRequest:
    """A text to be encoded.

    Attributes:
        model: The artifact's name; None if the request does not name one.
        prompt: The text, or the messages that the chat template makes one of.
        add_bos: Whether the text gets a beginning-of-sequence token; None is the model's default.
    """

    model: str | None
    prompt: str | list[dict[str, Any]]
    add_bos: bool | None


def read_completion_request(value: Any) -> CompletionRequest:
    """Check a request.

    Args:
        value: The JSON value of its body.

    Raises:
        RequestError: A field is wrong, unknown, or not supported.
    """
    fields = Fields(value)
    prompt = _prompt(fields)
    fields.only("best_of", (1,), "this server generates one answer for each request")
    fields.only("echo", (False,), "this server does not repeat the prompt")
    fields.only("suffix", ("",), "this server does not support it")
    fields.only("logprobs", (), "this server does not support it yet")
    answer = read_answer_request(fields, fields.whole("max_tokens", 1))
    fields.finish()
    return CompletionRequest(answer, prompt)


def read_tokenize_request(value: Any) -> TokenizeRequest:
    """Check a request.

    Args:
        value: The JSON value of its body.

    Raises:
        RequestError: A field is wrong or unknown, or there is not exactly one of ``prompt`` and ``messages``.
    """
    fields = Fields(value)
    model, prompt = fields.text("model"), fields.text("prompt")
    add = fields.any("add_special_tokens")
    if add is not None and not isinstance(add, bool):
        fields.fail("add_special_tokens", "true or false")
    messages = fields.any("messages")
    if (prompt is None) == (messages is None):
        raise RequestError("the body must have either prompt or messages", param="prompt")
    found = prompt if prompt is not None else read_messages(fields)
    fields.finish()
    return TokenizeRequest(model, found, add)


def _prompt(fields: Fields) -> str | list[int]:
    value = fields.any("prompt")
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], int):
        value = value[0]
    ids = isinstance(value, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in value)
    if value and (isinstance(value, str) or ids):
        return list(value) if ids else str(value)
    return fields.fail("prompt", "a text that is not empty, or a list of token ids; one prompt for each request")
