"""The fields that requests for a chat answer and for a completion have in common."""

from __future__ import annotations

from dataclasses import dataclass

from ..runtime.response_format import Grammar
from ..sampling import SamplingOverrides
from .fields import Fields, is_unicode
from .request_error import RequestError

_MOST_STOPS = 16
_SEED_BITS = 64
_IGNORED = ("metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user")


@dataclass(frozen=True)
class AnswerRequest:
    """How to answer.

    Attributes:
        model: The artifact's name; None if the request does not name one.
        max_tokens: The largest number of tokens to generate; None if the request does not limit it.
        sampling: Changes to the artifact's sampling settings.
        seed: Of the sampler; None draws a fresh one.
        stop: Texts that end the answer.
        stream: Whether to send the answer in pieces.
        include_usage: Whether a stream ends with the numbers of tokens.
        logprobs: How many alternatives of each token to report with its log probability; None reports none.
        grammar: What the answer must match; None allows any text.
    """

    model: str | None
    max_tokens: int | None
    sampling: SamplingOverrides
    seed: int | None
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    logprobs: int | None = None
    grammar: Grammar | None = None


def read_answer_request(fields: Fields, max_tokens: int | None) -> AnswerRequest:
    """Read the common fields, and refuse those that ask for what this server cannot do.

    Args:
        fields: The request.
        max_tokens: As the request limits it; its field's name depends on the kind of request.

    Raises:
        RequestError: A field is wrong or not supported.
    """
    fields.ignore(*_IGNORED)
    fields.only("n", (1,), "this server generates one answer for each request")
    for name in ("presence_penalty", "frequency_penalty"):
        fields.only(name, (0, 0.0), "this server does not support it; use repetition_penalty")
    fields.only("logit_bias", ({},), "this server does not support it")
    stream = fields.flag("stream")
    return AnswerRequest(
        model=fields.text("model"),
        max_tokens=max_tokens,
        sampling=_sampling(fields),
        seed=_seed(fields),
        stop=_stop(fields),
        stream=stream,
        include_usage=_include_usage(fields, stream),
    )


def _sampling(fields: Fields) -> SamplingOverrides:
    """The OpenAI fields temperature and top_p, and this server's further ones."""
    values = {name: fields.number(name) for name in ("temperature", "top_p", "min_p", "repetition_penalty")}
    top_k = fields.whole("top_k", 0, 2**31 - 1)
    try:
        return SamplingOverrides(**values, top_k=top_k)
    except ValueError as error:
        name = str(error).partition(" ")[0]
        raise RequestError(str(error), param=fields.path(name)) from None


def _seed(fields: Fields) -> int | None:
    """A seed of OpenAI's is a signed number; the sampler's has the same bits without the sign."""
    seed = fields.whole("seed", -(1 << _SEED_BITS - 1), (1 << _SEED_BITS) - 1)
    return None if seed is None else seed % (1 << _SEED_BITS)


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.any("stop")
    texts = [] if value is None else [value] if isinstance(value, str) else value
    valid = isinstance(texts, list) and len(texts) <= _MOST_STOPS
    if not valid or not all(isinstance(text, str) and text and is_unicode(text) for text in texts):
        fields.fail("stop", f"a string that is not empty, or a list of at most {_MOST_STOPS} of them")
    return tuple(texts)


def _include_usage(fields: Fields, stream: bool) -> bool:
    value = fields.any("stream_options")
    if value is None:
        return False
    if not stream:
        raise RequestError("stream_options is only allowed with stream: true", param="stream_options")
    options = Fields(value, fields.path("stream_options"))
    options.ignore("include_obfuscation")
    include = options.flag("include_usage")
    options.finish()
    return include
