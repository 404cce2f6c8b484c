"""One request's answer on its way through the scheduler, and what the request is told meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import EdgekitError
from ..runtime.answer import Answer, FinishReason
from ..runtime.logprobs import Logprobs, TokenLogprob
from ..runtime.thought import Piece
from ..runtime.tool_calls import ToolCall
from .request_error import RequestError
from .slots import Slot


@dataclass(frozen=True)
class Ended:
    """The end of an answer.

    Attributes:
        finish: Why it has ended; ``interrupted`` if its time was up.
        prompt_tokens: Tokens of the prompt.
        cached_tokens: How many of them were not evaluated, because a cache held them; all of them if the answer has not
            begun.
        tokens: Generated tokens, with the thought's.
        thought_tokens: How many of them are the thought's.
        first_s: Seconds until the first token; None if there is none.
        decode_s: Seconds from the first token to the last one.
    """

    finish: FinishReason
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    thought_tokens: int
    first_s: float | None = field(default=None, compare=False)
    decode_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Begun:
    """The prompt has been read: a cache holds it, from which other answers to it can begin."""


@dataclass(frozen=True)
class Text:
    """Text that has become final.

    Attributes:
        pieces: The text, of the thought and of the answer.
        logprobs: The log probabilities of the answer's tokens since the last event, if they were asked for.
        calls: The calls of functions that have become final.
        tokens: The tokens generated so far.
        thought_tokens: How many of them are the thought's.
    """

    pieces: list[Piece]
    logprobs: list[TokenLogprob] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    tokens: int = field(default=0, compare=False)
    thought_tokens: int = field(default=0, compare=False)


Whole = tuple[Sequence[Text], Ended]  # an answer: its texts in order, and its end
Event = Begun | Text | Ended | EdgekitError | RequestError  # all but the first two end the job


def joined(texts: Sequence[Text]) -> Text:
    """Texts as one, for what keeps text and calls apart."""
    return Text(
        [piece for text in texts for piece in text.pieces],
        [each for text in texts for each in text.logprobs],
        [call for text in texts for call in text.calls],
    )


class Job:
    """An answer to be generated.

    Args:
        answer: The answer. Its sampler has seen the prompt.
        emit: Is told each event, in the scheduler's thread. Must return at once and not raise.
        time_limit_s: Seconds from now after which the answer ends.
        logprobs: Those of the answer, if they are to be emitted.
        stops: Ids that end the answer, of which no log probability is emitted.
        next_start: Returns the ids that the next prompt of the conversation begins with, given the answer's text; None
            if it begins with all that was evaluated, or if there is no conversation.
        number: Of the answer among those of its request; the first one is 0.

    Attributes:
        left: The ids to be evaluated next.
        slot: The cache that the job uses, while it has one.
        content: The text of the answer, without the thought.
    """

    def __init__(
        self,
        answer: Answer,
        emit: Callable[[Event], None],
        time_limit_s: float,
        logprobs: Logprobs | None = None,
        stops: frozenset[int] = frozenset(),
        next_start: Callable[[str], list[int]] | None = None,
        number: int = 0,
    ) -> None:
        self.answer = answer
        self.number = number
        self.content = ""
        self.next_start = next_start
        self.prompt = list(answer.pending)
        self.left = self.prompt
        self.slot: Slot | None = None
        self.emit = emit
        self.began = time.monotonic()
        self._logprobs, self._stops = logprobs, stops
        self._told = self._told_calls = 0  # of the log probabilities, of the calls
        self._first_at: float | None = None
        self._last_at = self.began
        self._cached = len(self.prompt)  # until it begins
        self._deadline = self.began + time_limit_s
        self._cancelled = threading.Event()

    @property
    def late(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() > self._deadline

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Say that nobody wants the answer any more. May be called from any thread."""
        self._cancelled.set()

    def begin(self, slot: Slot) -> None:
        """Use a slot, which holds a beginning of the prompt."""
        self.slot = slot
        self._cached = len(slot.held)
        self.left = self.prompt[self._cached :]

    def tell(self, pieces: list[Piece]) -> None:
        """Emit text, unless there is none. Call it after each token."""
        self._last_at = time.monotonic()
        if self._first_at is None and self.answer.tokens:
            self._first_at = self._last_at
            self.emit(Begun())
        calls = self.answer.tool_calls[self._told_calls :]
        self._told_calls += len(calls)
        logprobs: list[TokenLogprob] = []
        if self._logprobs is not None and (pieces or calls or self.answer.ended):
            known = self.answer.answer_tokens
            new = self._logprobs.found[max(self._told, known.start) : known.stop]
            logprobs = [each for each in new if each.token not in self._stops]
            self._told = max(self._told, known.stop)
        self.content += "".join(piece.text for piece in pieces if not piece.thought)
        if pieces or logprobs or calls:
            self.emit(Text(pieces, logprobs, calls, len(self.answer.tokens), self.answer.thought_tokens))

    def end(self, how: Literal["ended", "late"] = "ended") -> None:
        """Emit the end of the answer."""
        if how == "late":
            self.tell(self.answer.flush())
        answer = self.answer
        first_s = None if self._first_at is None else self._first_at - self.began
        decode_s = 0.0 if self._first_at is None else self._last_at - self._first_at
        counts = (len(self.prompt), self._cached, len(answer.tokens), answer.thought_tokens)
        self.emit(Ended(answer.finish, *counts, first_s, decode_s))
