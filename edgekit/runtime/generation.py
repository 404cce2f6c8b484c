"""One generated answer: an iterator of pieces of text, and the result with its timings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, EvaluationCancelledError, SessionBusyError
from . import events
from .answer import Answer, FinishReason, ThoughtEnd
from .constraint import Constraint
from .interruptible import OwnLock
from .logprobs import Logprobs, TokenLogprob
from .response_format import parsed
from .sampler import Sampler
from .thought import Piece, ThoughtSplitter
from .tokenizer import Tokenizer
from .tool_calls import CallReader, ToolCall
from .watch import Watch

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Completion:
    """A generated answer.

    Attributes:
        text: The whole text as the model wrote it, with the tags of a thought, and without special tokens and what ends
            the answer.
        thought: The text between ``<think>`` and ``</think>``; empty if the model does not reason.
        answer: ``text`` without the thought and without calls of functions.
        tokens: The generated token ids, with the stop token.
        prompt_tokens: The token ids of the prompt.
        finish_reason: ``stop`` (the model generated a stop token or a stop text), ``length`` (max_tokens), ``context``
            (the context is full), ``loop`` (the loop guard was to end an answer that repeats itself) or ``interrupted``
            (the answer is not finished).
        ttft_s: Time to first token in seconds, from the call: encoding, prefill of uncached tokens, sampling.
        decode_tok_s: Tokens per second after the first, without time that the caller spends between pieces; None for
            fewer than two tokens.
        thought_tokens: How many of the tokens are the thought's.
        thought_closed: What closed the thought: the ``model``, its ``budget`` (think_tokens) or the guard against a
            ``loop``; None if it is open or there is none.
        loops: How often the guard has found a loop.
        accepted_tokens: How many of the tokens the engine had guessed and evaluated ahead.
        logprobs: The log probability of each of ``tokens``, if it was asked for.
        dropped_messages: How many of the oldest messages were left out, because the context is full.
        tool_calls: The functions that the model calls, if it was given ``tools``.
    """

    text: str
    thought: str
    answer: str
    tokens: list[int]
    prompt_tokens: list[int]
    finish_reason: FinishReason
    ttft_s: float
    decode_tok_s: float | None
    thought_tokens: int = 0
    thought_closed: ThoughtEnd | None = None
    loops: int = 0
    accepted_tokens: int = 0
    logprobs: list[TokenLogprob] | None = None
    dropped_messages: int = 0
    tool_calls: list[ToolCall] = field(default_factory=list)

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message for the conversation, without the thought and with the calls of functions."""
        found: dict[str, Any] = {"role": "assistant", "content": self.answer}
        if self.tool_calls:
            found["tool_calls"] = [call.message for call in self.tool_calls]
        return found

    def parse(self, kind: type[Parsed]) -> Parsed:
        """The answer as an object, if it was held to this class with ``response_format``.

        Args:
            kind: A pydantic model or a dataclass.

        Raises:
            EngineError: The answer ended before it was complete.
            ValueError: The answer is not valid; pydantic's error says why.
        """
        if self.finish_reason != "stop":
            raise EngineError(
                f"the answer is not complete: its finish_reason is {self.finish_reason!r}",
                hint="allow more tokens with max_tokens",
            )
        found: Parsed = parsed(kind, self.answer)
        return found


class Generation(Iterator[Piece]):
    """An iterator over the pieces of an answer (:class:`~edgekit.runtime.thought.Piece`).

    :class:`~edgekit.runtime.session.Session` creates generations.

    Args:
        evaluate: Takes ids and returns the logits of the last one, float32 (vocab_size,). Raises an error if the
            session has started another generation.
        room: Returns how many more ids the context can hold.
        tokenizer: The artifact's tokenizer.
        sampler: A new sampler.
        prompt: Ids of the prompt, at least one.
        stops: Ids that end the answer.
        stop_texts: Texts that end the answer and are not part of it.
        max_tokens: The largest number of tokens to generate; None is limited only by the context.
        splitter: Separates the thought from the answer; None if the model does not reason.
        watch: Limits the thought and looks for loops; None does neither.
        logprobs: Collects the log probabilities of the tokens.
        constraint: Holds what follows the thought to a format.
        calls: Takes calls of functions out of the answer; None if the model may call none.
        dropped_messages: How many messages were left out of the prompt.
        prepare_s: Seconds that were spent on making the prompt.
        accepted: Returns how many tokens the engine has guessed since it was opened.
        ended: Called with the answer when it ends or is stopped.
        cancel_evaluation: Makes an ``evaluate`` that runs in another thread raise EvaluationCancelledError.
        is_current: Returns whether the session has neither started another generation nor been closed.
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
        stop_texts: Sequence[str] = (),
        max_tokens: int | None,
        splitter: ThoughtSplitter | None,
        watch: Watch | None = None,
        logprobs: Logprobs | None = None,
        constraint: Constraint | None = None,
        calls: CallReader | None = None,
        dropped_messages: int = 0,
        prepare_s: float,
        accepted: Callable[[], int] = lambda: 0,
        ended: Callable[[Completion], None] | None = None,
        cancel_evaluation: Callable[[], None] = lambda: None,
        is_current: Callable[[], bool] = lambda: True,
    ) -> None:
        self._evaluate, self._room, self._is_current = evaluate, room, is_current
        self._prompt, self._pieces = prompt, list[Piece]()
        self._answer = Answer(
            tokenizer=tokenizer,
            sampler=sampler,
            prompt=prompt,
            stops=stops,
            stop_texts=stop_texts,
            max_tokens=max_tokens,
            splitter=splitter,
            watch=watch,
            logprobs=logprobs,
            constraint=constraint,
            calls=calls,
        )
        self._logprobs, self._dropped_messages = logprobs, dropped_messages
        self._ended = ended
        self._accepted, self._accepted_tokens, self._accepted_before = accepted, 0, 0
        self._ttft_s, self._decode_s = prepare_s, 0.0
        self._produced = self._produce()
        self._lock = OwnLock("the answer")  # held by the thread that generates
        self._producing = False  # that thread is in the generator, perhaps interrupted by a signal handler
        self._cancel_evaluation, self._cancelled, self._evaluating = cancel_evaluation, False, False
        self._is_whole = False  # it ended before it was cancelled

    def __next__(self) -> Piece:
        """The next piece.

        Raises:
            SessionBusyError: Another thread is generating this answer, or a signal handler has interrupted a call that
                uses the session. The answer can be continued.
        """
        if not self._lock.acquire(blocking=False):
            raise SessionBusyError(
                "another thread is generating this answer",
                hint="read an answer in one thread; other threads may cancel it",
            )
        try:
            if self._producing:
                raise SessionBusyError("this answer is being generated", hint="a signal handler may cancel it")
            self._producing = True
            try:
                return next(self._produced)
            except EvaluationCancelledError:
                raise StopIteration from None
            except SessionBusyError:  # nothing was evaluated
                self._produced = self._produce()
                raise
            finally:
                self._producing = False
        finally:
            self._lock.release()

    def complete(self) -> Completion:
        """Generate the rest of the answer and return the whole answer."""
        for _ in self:
            pass
        return self.completion

    def events(self) -> Iterator[events.Event]:
        """Generate the answer as events: ``Thought`` and ``Answer`` with text, each ``ToolCall``, then one ``Done``."""
        for piece in self:
            yield events.Thought(piece.text) if piece.thought else events.Answer(piece.text)
        yield from self._answer.tool_calls
        yield events.Done(self.completion)

    def stop(self) -> Completion:
        """End the answer here, for instance on Ctrl-C, and return what has been generated.

        If another thread is generating the answer, this waits until it has stopped.
        """
        self.cancel()
        with self._lock:
            if not self._producing:  # a signal handler may call this in the middle of a token, which then ends
                self._produced.close()
            return self.completion

    def cancel(self) -> None:
        """End the answer from any thread, also while the prompt is read. Returns at once.

        The thread that generates the answer gets no further piece, within a fraction of a second, and the answer's
        ``finish_reason`` is ``interrupted``.
        """
        self._cancelled = True
        if self._evaluating and not self._lock.is_other:
            self._cancel_evaluation()
            # The evaluation may have been about to begin, so cancel it until it has ended.
            with suppress(RuntimeError):  # no thread can be started while the interpreter ends
                threading.Thread(target=self._keep_cancelling, name="edgekit-cancel", daemon=True).start()

    def close(self) -> None:
        """End the answer, as :meth:`stop` does; for ``contextlib.closing``."""
        self.stop()

    def _keep_cancelling(self) -> None:
        while self._evaluating:
            self._cancel_evaluation()
            time.sleep(0.005)

    @property
    def token_count(self) -> int:
        """How many tokens have been generated."""
        return len(self._answer.tokens)

    @property
    def completion(self) -> Completion:
        """The answer so far. Until the answer is finished, ``finish_reason`` is ``interrupted``."""
        answer = self._answer
        count = len(answer.tokens)
        return Completion(
            text="".join(answer.text),
            thought="".join(piece.text for piece in self._pieces if piece.thought),
            answer="".join(piece.text for piece in self._pieces if not piece.thought),
            tokens=list(answer.tokens),
            prompt_tokens=list(self._prompt),
            finish_reason=answer.finish if self._is_whole or not self._cancelled else "interrupted",
            ttft_s=self._ttft_s,
            decode_tok_s=(count - 1) / self._decode_s if count > 1 and self._decode_s > 0 else None,
            thought_tokens=answer.thought_tokens,
            thought_closed=answer.thought_closed,
            loops=answer.loops,
            logprobs=list(self._logprobs.found) if self._logprobs else None,
            dropped_messages=self._dropped_messages,
            tool_calls=list(answer.tool_calls),
            accepted_tokens=self._accepted_tokens,
        )

    def _produce(self) -> Generator[Piece, None, None]:
        answer = self._answer
        try:
            while not self._cancelled:
                if not answer.force():
                    self._choose()
                yield from self._record(answer.read())
                if not self._cancelled and answer.ends(self._room()):
                    yield from self._record(answer.flush())
                    break
        finally:
            self._is_whole = not self._cancelled
            if self._ended is not None:
                self._ended(self.completion)

    def _choose(self) -> None:
        """Evaluate the pending ids and choose a token."""
        started = time.perf_counter()
        first = not self._answer.tokens
        self._evaluating = True
        try:
            logits = self._evaluate_pending()
        finally:
            self._evaluating = False
        self._answer.choose(logits)
        elapsed = time.perf_counter() - started
        if first:
            self._ttft_s += elapsed
            self._accepted_before = self._accepted()
        else:
            self._decode_s += elapsed
            self._accepted_tokens = self._accepted() - self._accepted_before

    def _evaluate_pending(self) -> NDArray[np.float32]:
        while not self._cancelled:
            try:
                return self._evaluate(self._answer.pending)
            except EvaluationCancelledError:
                # Perhaps an answer before this one was cancelled at its last moment. The engine is unchanged.
                if not self._is_current():
                    raise
        raise EvaluationCancelledError("the answer was cancelled")

    def _record(self, pieces: list[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            if self._cancelled:
                return
            self._pieces.append(piece)
            yield piece


def superseded() -> EngineError:
    """The error for continuing a generation after its session has started another one or was closed."""
    return EngineError(
        "this answer cannot be continued: its session has started another answer or was closed",
        hint="finish an answer before starting the next one, or open a session for each",
    )
