"""Answers in the form of OpenAI's API: one object, or chunks of a stream.

https://platform.openai.com/docs/api-reference/chat and .../completions. The thought of a reasoning model stands in
``reasoning_content``, as in DeepSeek's API (https://api-docs.deepseek.com/guides/reasoning_model).
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from ..json_text import json_text
from ..runtime.logprobs import TokenLogprob
from ..runtime.thought import Piece
from .job import Ended, Text, Whole, joined
from .request_error import RequestError

# An answer that was ended by a limit of the server is as incomplete as one ended by max_tokens.
FINISH = {"stop": "stop", "loop": "stop", "length": "length", "context": "length", "interrupted": "length"}

_UNLIKELY = -9999.0  # of OpenAI's API
Json = dict[str, Any]


class Reply(Protocol):
    """Makes the response of a request from its answers."""

    def begin(self) -> bytes:
        """The beginning of a stream."""

    def text(self, number: int, text: Text) -> bytes:
        """Events with text of the answer with this number."""

    def end(self, number: int, ended: Ended) -> bytes:
        """Events that say why an answer has ended."""

    def finish(self, ended: Sequence[Ended]) -> bytes:
        """The end of a stream, when all answers have ended."""

    def fail(self, error: RequestError) -> bytes:
        """The end of a stream that has failed."""

    def whole(self, answers: Sequence[Whole]) -> Json:
        """The answers as one object."""


class _ChunkReply:
    """What both replies in chunks have in common.

    Args:
        head: The members of each chunk.
        include_usage: Whether a stream ends with the numbers of tokens. As in OpenAI's API, ``usage`` is null in its
            other chunks, unless they have the numbers so far.
        running_usage: Whether each chunk has the numbers of tokens so far.
    """

    def __init__(self, head: Json, *, include_usage: bool, running_usage: bool) -> None:
        self._head, self._include_usage, self._running_usage = head, include_usage, running_usage
        self._counts: dict[int, tuple[int, int]] = {}

    def finish(self, ended: Sequence[Ended]) -> bytes:
        """The numbers of tokens, if they were asked for, and the end."""
        last = event({**self._head, "choices": [], "usage": usage(ended)}) if self._include_usage else b""
        return last + b"data: [DONE]\n\n"

    def fail(self, error: RequestError) -> bytes:
        """The error."""
        return event(error.body)

    def _sent(self, choice: Json, counted: Text | Ended | None = None) -> bytes:
        chunk = {**self._head, "choices": [choice]}
        if self._running_usage:
            if counted is not None:
                self._counts[choice["index"]] = counted.tokens, counted.thought_tokens
            chunk["usage"] = {
                "completion_tokens": sum(tokens for tokens, _ in self._counts.values()),
                "completion_tokens_details": {"reasoning_tokens": sum(thought for _, thought in self._counts.values())},
            }
        elif self._include_usage:
            chunk["usage"] = None
        return event(chunk)


class ChatReply(_ChunkReply):
    """Answers to a conversation.

    Args:
        model: The model's name.
        reasons: Whether the model thinks before it answers.
        choices: How many answers there are.
        include_usage, running_usage: Whether a stream ends with the numbers of tokens, and has them on its way.
    """

    def __init__(
        self, model: str, *, reasons: bool, choices: int = 1, include_usage: bool = False, running_usage: bool = False
    ) -> None:
        self._names = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        head = {**self._names, "object": "chat.completion.chunk"}
        super().__init__(head, include_usage=include_usage, running_usage=running_usage)
        self._reasons, self._choices = reasons, choices
        self._calls: Counter[int] = Counter()  # by the answer's number

    def begin(self) -> bytes:
        """The first chunk of each answer."""
        return b"".join(self._chunk(number, {"role": "assistant", "content": ""}) for number in range(self._choices))

    def text(self, number: int, text: Text) -> bytes:
        """A chunk with text and calls."""
        delta: Json = dict(_texts(text.pieces))
        if text.calls:
            start = self._calls[number]
            delta["tool_calls"] = [{"index": start + i, **call.message} for i, call in enumerate(text.calls)]
            self._calls[number] += len(text.calls)
        return self._chunk(number, delta, logprobs=_logprobs(text.logprobs) if text.logprobs else None, counted=text)

    def end(self, number: int, ended: Ended) -> bytes:
        """The chunk that says why an answer has ended."""
        return self._chunk(number, {}, _finish(ended, called=bool(self._calls[number])), counted=ended)

    def whole(self, answers: Sequence[Whole]) -> Json:
        """The answers as one object."""
        choices = [self._choice(number, joined(texts), ended) for number, (texts, ended) in enumerate(answers)]
        counts = usage([ended for _, ended in answers])
        return {**self._names, "object": "chat.completion", "choices": choices, "usage": counts}

    def _choice(self, number: int, text: Text, ended: Ended) -> Json:
        message: Json = {"role": "assistant", "content": None if text.calls else "", "refusal": None}
        if self._reasons:
            message["reasoning_content"] = ""
        message |= _texts(text.pieces)
        if text.calls:
            message["tool_calls"] = [call.message for call in text.calls]
        logprobs = _logprobs(text.logprobs) if text.logprobs else None
        reason = _finish(ended, called=bool(text.calls))
        return {"index": number, "message": message, "logprobs": logprobs, "finish_reason": reason}

    def _chunk(
        self,
        number: int,
        delta: Json,
        finish: str | None = None,
        logprobs: Json | None = None,
        counted: Text | Ended | None = None,
    ) -> bytes:
        return self._sent({"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}, counted)


class CompletionReply(_ChunkReply):
    """Texts that continue another; as :class:`ChatReply`.

    Args:
        model: The model's name.
        echo: Stands before each text.
        choices, include_usage, running_usage: As for :class:`ChatReply`.
    """

    def __init__(
        self, model: str, *, echo: str = "", choices: int = 1, include_usage: bool = False, running_usage: bool = False
    ) -> None:
        name = f"cmpl-{secrets.token_hex(12)}"
        head = {"id": name, "object": "text_completion", "created": int(time.time()), "model": model}
        super().__init__(head, include_usage=include_usage, running_usage=running_usage)
        self._echo, self._choices = echo, choices
        self._offsets: Counter[int] = Counter()  # of the next token, by the text's number

    def begin(self) -> bytes:
        """The prompt, if it is repeated."""
        if not self._echo:
            return b""
        return b"".join(self._sent(_text_choice(number, self._echo)) for number in range(self._choices))

    def text(self, number: int, text: Text) -> bytes:
        """A chunk with text."""
        found = "".join(piece.text for piece in text.pieces)
        return self._sent(_text_choice(number, found, logprobs=self._logprobs(number, text.logprobs)), text)

    def end(self, number: int, ended: Ended) -> bytes:
        """The chunk that says why a text has ended."""
        return self._sent(_text_choice(number, "", FINISH[ended.finish]), ended)

    def whole(self, answers: Sequence[Whole]) -> Json:
        """The texts as one object."""
        choices = []
        for number, (texts, ended) in enumerate(answers):
            text = joined(texts)
            found = self._echo + "".join(piece.text for piece in text.pieces)
            logprobs = self._logprobs(number, text.logprobs)
            choices.append(_text_choice(number, found, FINISH[ended.finish], logprobs))
        return {**self._head, "choices": choices, "usage": usage([ended for _, ended in answers])}

    def _logprobs(self, number: int, found: Sequence[TokenLogprob]) -> Json | None:
        """Log probabilities in the form of this API."""
        if not found:
            return None
        offsets = []
        for each in found:
            offsets.append(self._offsets[number])
            self._offsets[number] += len(each.text)
        return {
            "tokens": [each.text for each in found],
            "token_logprobs": [_UNLIKELY if each.logprob is None else max(each.logprob, _UNLIKELY) for each in found],
            "top_logprobs": [_by_text(each) for each in found],
            "text_offset": offsets,
        }


def usage(ended: Sequence[Ended]) -> Json:
    """The numbers of tokens of a request. Its answers share the prompt, which counts once."""
    prompt, tokens = ended[0].prompt_tokens, sum(each.tokens for each in ended)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": tokens,
        "total_tokens": prompt + tokens,
        "prompt_tokens_details": {"cached_tokens": min(each.cached_tokens for each in ended)},
        "completion_tokens_details": {"reasoning_tokens": sum(each.thought_tokens for each in ended)},
    }


def event(value: Json, kind: str | None = None) -> bytes:
    """A server-sent event.

    Args:
        value: Its data.
        kind: Its type; None for the default.
    """
    named = f"event: {kind}\n" if kind else ""
    return f"{named}data: {json_text(value)}\n\n".encode()


def _by_text(token: TokenLogprob) -> dict[str, float]:
    """The most likely tokens by their text, which parts of characters share; the likeliest one counts."""
    return {other.text: max(other.logprob, _UNLIKELY) for other in reversed(token.top)}


def _finish(ended: Ended, *, called: bool) -> str:
    reason = FINISH[ended.finish]
    return "tool_calls" if called and reason == "stop" else reason


def _text_choice(number: int, text: str, finish: str | None = None, logprobs: Json | None = None) -> Json:
    return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(found: Sequence[TokenLogprob]) -> Json:
    """Log probabilities in OpenAI's form. A token that was not chosen gets the value of unlikely tokens."""
    content = [
        {
            **_token(each.text, _UNLIKELY if each.logprob is None else each.logprob),
            "top_logprobs": [_token(other.text, other.logprob) for other in each.top],
        }
        for each in found
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> Json:
    whole = "\N{REPLACEMENT CHARACTER}" not in text  # the bytes of a part of a character are not known
    value = max(logprob, _UNLIKELY)  # a token that a format excludes has a probability of 0
    return {"token": text, "logprob": value, "bytes": list(text.encode()) if whole else None}


def _texts(pieces: Sequence[Piece]) -> dict[str, str]:
    """The texts of pieces by the field that holds them; empty ones are left out."""
    texts = {
        "reasoning_content": "".join(piece.text for piece in pieces if piece.thought),
        "content": "".join(piece.text for piece in pieces if not piece.thought),
    }
    return {name: text for name, text in texts.items() if text}
