"""Answers in the form of OpenAI's API: one object, or chunks of a stream.

https://platform.openai.com/docs/api-reference/chat and .../completions. The thought of a reasoning model stands in
``reasoning_content``, as in DeepSeek's API (https://api-docs.deepseek.com/guides/reasoning_model).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from ..runtime.logprobs import TokenLogprob
from ..runtime.thought import Piece
from .job import Ended, Text

# An answer that was ended by a limit of the server is as incomplete as one ended by max_tokens.
_FINISH = {"stop": "stop", "loop": "stop", "length": "length", "context": "length", "interrupted": "length"}

_UNLIKELY = -9999.0  # of OpenAI's API


class ChatReply:
    """An answer to a conversation.

    Args:
        model: The model's name.
        reasons: Whether the model thinks before it answers.
    """

    def __init__(self, model: str, *, reasons: bool) -> None:
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._reasons = reasons

    def first(self) -> dict[str, Any]:
        """The first chunk of a stream."""
        return self._chunk({"role": "assistant", "content": ""})

    def chunk(self, text: Text) -> dict[str, Any]:
        """A chunk with text."""
        return self._chunk(_texts(text.pieces), logprobs=_logprobs(text.logprobs) if text.logprobs else None)

    def last(self, ended: Ended) -> dict[str, Any]:
        """The chunk that says why the answer has ended."""
        return self._chunk({}, _FINISH[ended.finish])

    def usage(self, ended: Ended) -> dict[str, Any]:
        """The chunk with the numbers of tokens."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage(ended)}

    def whole(self, text: Text, ended: Ended) -> dict[str, Any]:
        """The whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if self._reasons:
            message["reasoning_content"] = ""
        message |= _texts(text.pieces)
        logprobs = _logprobs(text.logprobs) if text.logprobs else None
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": _FINISH[ended.finish]}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage(ended)}

    def _chunk(
        self, delta: dict[str, str], finish: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}


class CompletionReply:
    """A text that continues another; as :class:`ChatReply`.

    Args:
        model: The model's name.
    """

    def __init__(self, model: str) -> None:
        name = f"cmpl-{secrets.token_hex(12)}"
        self._head = {"id": name, "object": "text_completion", "created": int(time.time()), "model": model}

    def first(self) -> dict[str, Any] | None:
        """There is no first chunk."""
        return None

    def chunk(self, text: Text) -> dict[str, Any]:
        """A chunk with text."""
        return self._with("".join(piece.text for piece in text.pieces))

    def last(self, ended: Ended) -> dict[str, Any]:
        """The chunk that says why the text has ended."""
        return self._with("", _FINISH[ended.finish])

    def usage(self, ended: Ended) -> dict[str, Any]:
        """The chunk with the numbers of tokens."""
        return {**self._head, "choices": [], "usage": usage(ended)}

    def whole(self, text: Text, ended: Ended) -> dict[str, Any]:
        """The whole text."""
        found = "".join(piece.text for piece in text.pieces)
        return {**self._with(found, _FINISH[ended.finish]), "usage": usage(ended)}

    def _with(self, text: str, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        return {**self._head, "choices": [choice]}


def usage(ended: Ended) -> dict[str, Any]:
    """The numbers of tokens of a request."""
    return {
        "prompt_tokens": ended.prompt_tokens,
        "completion_tokens": ended.tokens,
        "total_tokens": ended.prompt_tokens + ended.tokens,
        "prompt_tokens_details": {"cached_tokens": ended.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": ended.thought_tokens},
    }


def _logprobs(found: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Log probabilities in OpenAI's form. A token that was not chosen gets the value of unlikely tokens."""
    content = [
        {
            **_token(each.text, _UNLIKELY if each.logprob is None else each.logprob),
            "top_logprobs": [_token(other.text, other.logprob) for other in each.top],
        }
        for each in found
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> dict[str, Any]:
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
