"""One answer in the making: an iterator of text, and the figures when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .sampler import Sampler
from .text_stream import TextStream
from .thought import THINK_CLOSE, THINK_OPEN, Piece, ThoughtSplitter
from .tokenizer import Tokenizer

FinishReason = Literal["stop", "length", "context", "interrupted"]


@dataclass(frozen=True)
class Completion:
    """An answer and how it came about.

    Attributes:
        text: All of it as the model wrote it, tags of a thought included, without special tokens.
        thought: What stands between ``<think>`` and ``</think>``; empty for a model that does not reason.
        answer: ``text`` without the thought.
        tokens: The ids generated, the stop token included.
        prompt_tokens: The ids of the prompt.
        finish_reason: ``stop`` (a stop token), ``length`` (max_tokens), ``context`` (the context is full) or
            ``interrupted`` (asked for before the end).
        ttft_s: Seconds from the call to the first token: encoding, prefill of what the cache did not hold, sampling.
        decode_tok_s: Tokens per second after the first, time spent by the caller between pieces left out; None
            below two tokens.
    """

    text: str
    thought: str
    answer: str
    tokens: list[int]
    prompt_tokens: list[int]
    finish_reason: FinishReason
    ttft_s: float
    decode_tok_s: float | None


class Generation(Iterator[Piece]):
    """Yields :class:`~edgekit.runtime.thought.Piece` after piece; made by :class:`~edgekit.runtime.session.Session`.

    Args:
        evaluate: ids -> logits, float32 (vocab_size,) of the last; raises when the session went on to something else.
        room: How many more ids the context holds.
        tokenizer: The artifact's.
        sampler: A fresh one.
        prompt: Ids of the prompt, at least one.
        stops: Ids that end the answer.
        max_tokens: At most so many tokens, or None for as many as the context holds.
        splitter: Separates a thought from the answer; None: all is answer.
        prepare_s: Seconds that making the prompt took.
    """

    def __init__(
        self,
        *,
        evaluate: Callable[[Sequence[int]], NDArray[np.float32]],
        room: Callable[[], int],
        tokenizer: Tokenizer,
        sampler: Sampler,
        prompt: list[int],
        stops: frozenset[int],
        max_tokens: int | None,
        splitter: ThoughtSplitter | None,
        prepare_s: float,
    ) -> None:
        self._evaluate, self._room = evaluate, room
        self._tokenizer, self._sampler, self._stops = tokenizer, sampler, stops
        self._prompt, self._max_tokens = prompt, max_tokens
        self._stream, self._splitter = TextStream(tokenizer), splitter
        self._tags = {tokenizer.token_id(tag): tag for tag in (THINK_OPEN, THINK_CLOSE)} if splitter else {}
        self._tokens: list[int] = []
        self._text: list[str] = []
        self._pieces: list[Piece] = []
        self._finish: FinishReason = "interrupted"
        self._ttft_s, self._decode_s = prepare_s, 0.0
        self._produced = self._produce()

    def __next__(self) -> Piece:
        return next(self._produced)

    def complete(self) -> Completion:
        """Run to the end and return the whole answer."""
        for _ in self:
            pass
        return self.completion

    def stop(self) -> Completion:
        """End the answer here, for instance on Ctrl-C, and return what there is."""
        self._produced.close()
        return self.completion

    @property
    def completion(self) -> Completion:
        """The answer as far as it has come; ``finish_reason`` is ``interrupted`` before its end."""
        count = len(self._tokens)
        return Completion(
            text="".join(self._text),
            thought="".join(piece.text for piece in self._pieces if piece.thought),
            answer="".join(piece.text for piece in self._pieces if not piece.thought),
            tokens=list(self._tokens),
            prompt_tokens=list(self._prompt),
            finish_reason=self._finish,
            ttft_s=self._ttft_s,
            decode_tok_s=(count - 1) / self._decode_s if count > 1 and self._decode_s > 0 else None,
        )

    def _produce(self) -> Generator[Piece, None, None]:
        token = self._next_token(self._prompt)
        while True:
            yield from self._keep(self._split(self._print(token)))
            finish = self._finished(token)
            if finish:
                break
            token = self._next_token([token])
        rest = self._stream.flush()
        self._text.append(rest)
        pieces = self._split(rest)
        if self._splitter:
            pieces += self._splitter.flush()
        self._finish = finish
        yield from self._keep(pieces)

    def _next_token(self, ids: Sequence[int]) -> int:
        started = time.perf_counter()
        token = self._sampler.sample(self._evaluate(ids))
        elapsed = time.perf_counter() - started
        if self._tokens:
            self._decode_s += elapsed
        else:
            self._ttft_s += elapsed
        self._tokens.append(token)
        return token

    def _finished(self, token: int) -> FinishReason | None:
        if token in self._stops:
            return "stop"
        if len(self._tokens) == self._max_tokens:
            return "length"
        return "context" if self._room() < 1 else None

    def _print(self, token: int) -> str:
        """The text a token makes certain; a thought's tags are text even where the vocabulary has them as special."""
        tag = self._tags.get(token)
        text = self._stream.flush() + tag if tag else self._stream.push(token)
        self._text.append(text)
        return text

    def _split(self, text: str) -> list[Piece]:
        if self._splitter:
            return self._splitter.push(text)
        return [Piece(text)] if text else []

    def _keep(self, pieces: list[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self._pieces.append(piece)
            yield piece


def superseded() -> EngineError:
    """The error of a generation that goes on after its session began another or was closed."""
    return EngineError(
        "this answer cannot go on: its session began another one or was closed",
        hint="finish an answer before the next, or open a session for each",
    )
