"""A request of ``/v1/completions``, which continues a text, and one of ``/tokenize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .answer_request import COMMON, MODEL, AnswerRequest, answer_request
from .fields import Either, Flag, ListOf, Only, Text, Whole
from .messages import MESSAGES, template_messages
from .records import Field, Record
from .request_error import RequestError

DEFAULT_TOKENS = 16  # of OpenAI's API where a completion's request has no max_tokens
_MOST_ALTERNATIVES = 5  # as in OpenAI's API
_PROMPT = "a text that is not empty, or a list of token ids; one prompt for each request"
_IDS = ListOf(Whole(0, 2**31 - 1), least=1, allowed=_PROMPT)

COMPLETION = Record(
    "CompletionRequest",
    {
        "prompt": Field(
            Either(
                (
                    Text(1, allowed=_PROMPT),
                    ListOf(
                        Either((Whole(0, 2**31 - 1), Text(1, allowed=_PROMPT), _IDS), _PROMPT), least=1, allowed=_PROMPT
                    ),
                ),
                _PROMPT,
            ),
            "A text, or its token ids; or a list of one of them.",
            required=True,
        ),
        **COMMON,
        "max_tokens": Field(Whole(1), f"The most tokens to generate; {DEFAULT_TOKENS} if it is left out."),
        "logprobs": Field(
            Whole(0, _MOST_ALTERNATIVES), "Report log probabilities, with as many of the most likely tokens."
        ),
        "echo": Field(Flag(), "Begin the text with the prompt. Not with logprobs."),
        "best_of": Field(Only((1,), "this server generates what it returns; use n")),
        "suffix": Field(Only(("",), "this server does not support it")),
    },
)
TOKENIZE = Record(
    "TokenizeRequest",
    {
        "model": MODEL,
        "prompt": Field(Text(), "A text to encode."),
        "messages": Field(MESSAGES, "Instead of prompt: a conversation to make a prompt of."),
        "add_special_tokens": Field(
            Flag(), "Whether to add a beginning-of-sequence token. The model's default if it is left out."
        ),
    },
)


@dataclass(frozen=True)
class CompletionRequest:
    """A text to be continued.

    Attributes:
        answer: How to continue it.
        prompt: The text, or its token ids.
        echo: Whether the text begins with the prompt.
    """

    answer: AnswerRequest
    prompt: str | list[int]
    echo: bool = False


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
    values = COMPLETION.read(value)
    logprobs, echo = values.get("logprobs"), values.get("echo", False)
    if echo and logprobs is not None:
        raise RequestError("echo is not supported with logprobs: the prompt's are not computed", param="echo")
    answer = answer_request(values, values.get("max_tokens"), logprobs=logprobs)
    return CompletionRequest(answer, _prompt(values["prompt"]), echo)


def read_tokenize_request(value: Any) -> TokenizeRequest:
    """Check a request.

    Args:
        value: The JSON value of its body.

    Raises:
        RequestError: A field is wrong or unknown, or there is not exactly one of ``prompt`` and ``messages``.
    """
    values = TOKENIZE.read(value)
    if ("prompt" in values) == ("messages" in values):
        raise RequestError("the body must have either prompt or messages", param="prompt")
    prompt = values["prompt"] if "prompt" in values else template_messages(values["messages"])
    return TokenizeRequest(values.get("model"), prompt, values.get("add_special_tokens"))


def _prompt(value: str | list[Any]) -> str | list[int]:
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], int):
        prompt: str | list[int] = value[0]
        return prompt
    if isinstance(value, list) and not all(isinstance(each, int) for each in value):
        raise RequestError(f"prompt is a list of several prompts; it must be {_PROMPT}", param="prompt")
    return value
