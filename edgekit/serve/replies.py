"""Answers in the form of OpenAI's API: one object, or chunks of a stream.

https://platform.openai.com/docs/api-reference/chat and .../completions. The thought of a reasoning model stands in
``reasoning_content``, as in DeepSeek's API (https://api-docs.deepseek.com/guides/reasoning_model).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from ..runtime.thought import Piece
from .job import Ended

# An answer that was ended by a limit of the server is as incomplete as one ended by max_tokens.
_FINISH = {"stop": "stop", "loop": "stop", "length": "length", "context": "length", "interrupted": "length"}


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

    def chunk(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """A chunk with text."""
        return self._chunk(_texts(pieces))

    def last(self, ended: Ended) -> dict[str, Any]:
        """The chunk that says why the answer has ended."""
        return self._chunk({}, _FINISH[ended.finish])

    def usage(self, ended: Ended) -> dict[str, Any]:
        """The chunk with the numbers of tokens."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage(ended)}

    def whole(self, pieces: Sequence[Piece], ended: Ended) -> dict[str, Any]:
        """The whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if self._reasons:
            message["reasoning_content"] = ""
        message |= _texts(pieces)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[ended.finish]}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage(ended)}

    def _chunk(self, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
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

    def chunk(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """A chunk with text."""
        return self._with("".join(piece.text for piece in pieces))

    def last(self, ended: Ended) -> dict[str, Any]:
        """The chunk that says why the text has ended."""
        return self._with("", _FINISH[ended.finish])

    def usage(self, ended: Ended) -> dict[str, Any]:
        """The chunk with the numbers of tokens."""
        return {**self._head, "choices": [], "usage": usage(ended)}

    def whole(self, pieces: Sequence[Piece], ended: Ended) -> dict[str, Any]:
        """The whole text."""
        text = "".join(piece.text for piece in pieces)
        return {**self._with(text, _FINISH[ended.finish]), "usage": usage(ended)}

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


def _texts(pieces: Sequence[Piece]) -> dict[str, str]:
    """The texts of pieces by the field that holds them; empty ones are left out."""
    texts = {
        "reasoning_content": "".join(piece.text for piece in pieces if piece.thought),
        "content": "".join(piece.text for piece in pieces if not piece.thought),
    }
    return {name: text for name, text in texts.items() if text}
