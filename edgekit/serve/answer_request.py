"""The fields that the requests for an answer have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..runtime.response_format import Grammar
from ..sampling import FLOAT32_MAX, LEAST_REPETITION_PENALTY, SamplingOverrides
from .fields import Either, Flag, Ignored, ListOf, Number, Only, Text, Whole
from .records import Field, Record
from .request_error import RequestError

MOST_CHOICES = 8  # answers of one request
_MOST_STOPS = 16
_SEED_BITS = 64
_STOP = f"a string that is not empty, or a list of at most {_MOST_STOPS} of them"
_PENALTY = Only((0,), "this server does not support it; use repetition_penalty")

IGNORED: Mapping[str, Field] = {
    name: Field(Ignored(), "Accepted and ignored.")
    for name in (
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    )
}
MODEL = Field(Text(), "The model's name. May be left out if the server has only one.")
SAMPLING: Mapping[str, Field] = {
    "temperature": Field(Number(0, FLOAT32_MAX), "Divides the logits; 0 always takes the most likely token."),
    "top_p": Field(Number(0, 1, above=True), "Keeps the most likely tokens whose probabilities add up to this."),
    "top_k": Field(Whole(0, 2**31 - 1), "Keeps this many of the most likely tokens; 0 keeps all."),
    "min_p": Field(Number(0, 1), "Keeps tokens of at least this fraction of the most likely token's probability."),
    "repetition_penalty": Field(
        Number(LEAST_REPETITION_PENALTY, FLOAT32_MAX), "Above 1 discourages tokens seen before."
    ),
    "seed": Field(Whole(-(1 << _SEED_BITS - 1), (1 << _SEED_BITS) - 1), "Seeds the sampler. Drawn if it is left out."),
}
STOP = Field(
    Either((Text(1, allowed=_STOP), ListOf(Text(1, allowed=_STOP), most=_MOST_STOPS, allowed=_STOP)), _STOP),
    "Texts that end the answer and are not part of it.",
)
STREAM_OPTIONS = Record(
    "StreamOptions",
    {
        "include_usage": Field(Flag(), "End the stream with a chunk that counts the tokens."),
        "continuous_usage_stats": Field(Flag(), "Count the tokens so far in each chunk."),
        "include_obfuscation": Field(Ignored(), "Accepted and ignored."),
    },
)
COMMON: Mapping[str, Field] = {
    "model": MODEL,
    **SAMPLING,
    "stop": STOP,
    "stream": Field(Flag(), "Send the answer in pieces, as server-sent events."),
    "stream_options": Field(STREAM_OPTIONS, "Only with stream: true."),
    "n": Field(Whole(1, MOST_CHOICES), "How many answers to generate. They share the prompt's cache."),
    "presence_penalty": Field(_PENALTY),
    "frequency_penalty": Field(_PENALTY),
    "logit_bias": Field(Only(({},), "this server does not support it")),
    **IGNORED,
}


@dataclass(frozen=True)
class AnswerRequest:
    """How to answer.

    Attributes:
        model: The artifact's name; None if the request does not name one.
        max_tokens: The largest number of tokens to generate; None if the request does not limit it.
        max_tokens_field: The field of the request that says so, for messages.
        sampling: Changes to the artifact's sampling settings.
        seed: Of the sampler of the first answer; the others take the next numbers. None draws fresh ones.
        stop: Texts that end the answer.
        stream: Whether to send the answer in pieces.
        include_usage: Whether a stream ends with the numbers of tokens.
        running_usage: Whether each chunk of a stream has the numbers of tokens so far.
        choices: How many answers to generate.
        logprobs: How many alternatives of each token to report with its log probability; None reports none.
        grammar: What the answer must match; None allows any text.
        grammar_field: The field of the request that says so, for messages.
    """

    model: str | None
    max_tokens: int | None
    sampling: SamplingOverrides
    seed: int | None
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    running_usage: bool = False
    choices: int = 1
    logprobs: int | None = None
    grammar: Grammar | None = None
    grammar_field: str = "response_format"
    max_tokens_field: str = "max_tokens"


def answer_request(
    values: Mapping[str, Any], max_tokens: int | None, *, logprobs: int | None = None, grammar: Grammar | None = None
) -> AnswerRequest:
    """The common fields of a request.

    Args:
        values: Its fields, checked.
        max_tokens: As the request limits it; its field's name depends on the kind of request.
        logprobs, grammar: See :class:`AnswerRequest`.

    Raises:
        RequestError: Two fields contradict each other.
    """
    stream, stop, seed = values.get("stream", False), values.get("stop", ()), values.get("seed")
    if "stream_options" in values and not stream:
        raise RequestError("stream_options is only allowed with stream: true", param="stream_options")
    options = values.get("stream_options") or {}
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return AnswerRequest(
        model=values.get("model"),
        max_tokens=max_tokens,
        sampling=SamplingOverrides(**{name: values.get(name) for name in names}),
        seed=None if seed is None else seed % (1 << _SEED_BITS),  # OpenAI's are signed, the sampler's are not
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stream=stream,
        include_usage=options.get("include_usage", False),
        running_usage=options.get("continuous_usage_stats", False),
        choices=values.get("n", 1),
        logprobs=logprobs,
        grammar=grammar,
    )
