"""One answer in the making: from logits to tokens and pieces of text, and the reason for its end.

It computes no logits. A :class:`~edgekit.runtime.generation.Generation` drives one answer on one engine; the server's
scheduler drives several together. Both repeat these steps:

    if not answer.force():
        answer.choose(logits)     # logits of the last of answer.pending, once these ids have been evaluated
    pieces = answer.read()
    if answer.ends(room):
        pieces += answer.flush()  # no more tokens
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from copy import copy
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .constraint import Constraint
from .logprobs import Logprobs
from .sampler import Sampler
from .stop_text import StopText
from .text_stream import TextStream
from .thought import THINK_CLOSE, THINK_OPEN, Piece, ThoughtSplitter
from .tokenizer import Tokenizer
from .tool_calls import CallReader, ToolCall
from .watch import Watch, closing

FinishReason = Literal["stop", "length", "context", "interrupted", "loop"]
ThoughtEnd = Literal["model", "budget", "loop"]
# Tokens that may still come before a thought is closed inside a character, which has at most four bytes. Without a
# limit, a thought that repeats invalid bytes would never be closed.
_MOST_WAITED = 3


class Answer:
    """The state of one answer.

    Args:
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

    Attributes:
        tokens: The generated ids.
        pending: The ids that have not been evaluated: at first the prompt, later the last token, or several of them.
        text: What the model wrote, in pieces.
        finish: Why the answer has ended; ``interrupted`` until :meth:`flush`.
        thought_tokens: How many of the tokens are the thought's.
        sampler: The sampler.
        ended: Whether :meth:`flush` has been called.
    """

    def __init__(
        self,
        *,
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
    ) -> None:
        self.tokens: list[int] = []
        self.pending = prompt
        self.text: list[str] = []
        self.finish: FinishReason = "interrupted"
        self.thought_tokens = 0
        self._tokenizer, self.sampler, self._stops, self._max_tokens = tokenizer, sampler, stops, max_tokens
        self._stream, self._splitter = TextStream(tokenizer), splitter
        self._spelled_splitter = copy(splitter)  # of all text that the tokens spell, also of what is held back
        self._stop_text, self._watch, self._logprobs = StopText(stop_texts), watch, logprobs
        self._constraint, self._calls = constraint, calls
        self._forced: deque[int] = deque()  # the next ids, without sampling
        self._closed_by: ThoughtEnd | None = None  # if it was not the model
        self._waited = 0  # tokens since it was to be closed
        tags = (*((THINK_OPEN, THINK_CLOSE) if splitter else ()), *(calls.tags if calls else ()))
        self._tags = {tokenizer.token_id(tag): tag for tag in tags}
        self._end: FinishReason = "interrupted"
        self.ended = False
        self._starts: list[int] = []  # where the text of each token begins, in all text that the tokens spell
        self._spelled = self._told = 0  # characters that the tokens spell, and those of them before a stop text

    @property
    def thought_closed(self) -> ThoughtEnd | None:
        """What closed the thought; None if it is open or there is none."""
        if not self.thought_tokens or (self._splitter is not None and self._splitter.in_thought):
            return None
        return self._closed_by or "model"

    @property
    def answer_tokens(self) -> range:
        """The places of the tokens whose text belongs to the answer and is final.

        The thought is left out, with its tags and the white space behind it, and so is a stop text. It is empty while
        it is not known where the thought ends. A token that is only partly text of the answer belongs to it.
        """
        begin = self._splitter.answer_at if self._splitter else 0
        if begin is None:
            return range(0)
        first = bisect_left(self._starts, begin)
        ends = [*self._starts[first : first + 1], self._spelled]
        if first and ends[0] > begin:  # the token before that place spells more than what is before it
            first -= 1
        whole = self.ended and not self._stop_text.found
        return range(first, len(self.tokens) if whole else bisect_left(self._starts, self._told))

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls of functions so far."""
        return self._calls.calls if self._calls else []

    @property
    def loops(self) -> int:
        """How often the guard has found a loop."""
        return self._watch.loops if self._watch else 0

    def force(self) -> bool:
        """Take the next token of a sentence that closes the thought, which needs no logits; False if there is none."""
        if not self._forced:
            return False
        token = self._forced.popleft()
        self.tokens.append(token)
        self.pending.append(token)
        if self._logprobs:
            self._logprobs.forced(token)
        return True

    def choose(self, logits: NDArray[np.float32]) -> None:
        """Choose the next token.

        Args:
            logits: Of the last pending id, float32 (vocab_size,); changed as :meth:`adjust` says.

        Raises:
            EngineError: The logits are not numbers.
        """
        model_logits = self.adjust(logits)
        self.accept(self.sampler.sample(logits), model_logits)

    def adjust(self, logits: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Do what comes before sampling. A caller that samples for several answers uses this and :meth:`accept`.

        Args:
            logits: Of the last pending id, float32 (vocab_size,). Changed if the loop guard makes tokens less likely,
                or if the answer is held to a format.

        Returns:
            The logits as they were, if log probabilities are collected.
        """
        model_logits = logits.copy() if self._logprobs else None
        if self._watch is not None:
            self._watch.adjust(logits)
        if (constraint := self._current_constraint) is not None:
            constraint.apply(logits, () if self.tokens else self._openings)
        return model_logits

    def accept(self, token: int, model_logits: NDArray[np.float32] | None) -> None:
        """Take the token that :attr:`sampler` has chosen.

        Args:
            token: The id.
            model_logits: What :meth:`adjust` returned.
        """
        constraint = self._current_constraint
        if constraint is not None and not (token in self._openings and not self.tokens):
            constraint.accept(token)
        if self._logprobs and model_logits is not None:
            self._logprobs.chosen(token, model_logits)
        self.tokens.append(token)
        self.pending = [token]

    def read(self) -> list[Piece]:
        """The pieces that become final with the last token. Call it once for each token."""
        self.thought_tokens += self._in_thought
        self._starts.append(self._spelled)
        return self._split(self._decode(self.tokens[-1]))

    def ends(self, room: int) -> bool:
        """Whether the last token ends the answer.

        Args:
            room: How many more ids the context can hold.
        """
        token = self.tokens[-1]
        end = self._finished(token, room) or self._watched(token)
        if end:
            self._end = end
        return end is not None

    def flush(self) -> list[Piece]:
        """End the answer and return the pieces that were held back."""
        rest = self._tell(self._stream.flush(), ended=True)
        pieces = self._split(rest)
        if self._splitter:
            pieces += self._without_calls(self._splitter.flush())
        if self._calls and (text := self._calls.flush()):
            pieces.append(Piece(text))
        self.finish = "stop" if self._stop_text.found else self._end
        self.ended = True
        return pieces

    def _finished(self, token: int, room: int) -> FinishReason | None:
        if token in self._stops or self._stop_text.found or (self._constraint and self._constraint.is_complete):
            return "stop"
        if self._calls and self._calls.is_complete:
            return "stop"
        if len(self.tokens) == self._max_tokens:
            return "length"
        return "context" if room < len(self.pending) else None

    def _watched(self, token: int) -> FinishReason | None:
        """Close a thought that has used its tokens or loops, or end an answer that loops."""
        action = self._watch.push(token, in_thought=self._in_thought) if self._watch else "go on"
        if action == "end":
            return "loop"
        if action != "go on" and not self._closed_by:
            if not self._stream.is_whole and self._waited < _MOST_WAITED:
                self._waited += 1
                return None
            self._closed_by = "loop" if action == "close loop" else "budget"
            self._forced.extend(self._tokenizer.encode(closing(action, "".join(self.text)), add_bos=False))
        return None

    @property
    def _openings(self) -> tuple[int, ...]:
        """The token that opens a thought, with which an answer that is held to a format may begin."""
        return tuple(i for i, tag in self._tags.items() if tag == THINK_OPEN and i is not None)

    @property
    def _current_constraint(self) -> Constraint | None:
        return self._constraint if not self._in_thought else None

    @property
    def _in_thought(self) -> bool:
        """Whether the tokens end inside the thought, even if a stop text may begin with the end of its tag."""
        return self._spelled_splitter is not None and self._spelled_splitter.in_thought

    def _decode(self, token: int) -> str:
        """The text that becomes final with a token. Tags of thoughts and calls are text, even if they are special."""
        if token in self._stops:  # some vocabularies hold it as ordinary text
            return ""
        tag = self._tags.get(token)
        return self._tell(self._stream.flush() + tag if tag else self._stream.push(token))

    def _tell(self, spelled: str, *, ended: bool = False) -> str:
        """What becomes final with text that tokens spell, as far as no stop text may begin there."""
        self._spelled += len(spelled)
        if self._spelled_splitter is not None:
            self._spelled_splitter.push(spelled)
        text = self._stop_text.push(spelled) + (self._stop_text.flush() if ended else "")
        self._told += len(text)
        self.text.append(text)
        return text

    def _split(self, text: str) -> list[Piece]:
        pieces = self._splitter.push(text) if self._splitter else [Piece(text)] if text else []
        return self._without_calls(pieces)

    def _without_calls(self, pieces: list[Piece]) -> list[Piece]:
        if self._calls is None:
            return pieces
        found = [piece if piece.thought else Piece(self._calls.push(piece.text)) for piece in pieces]
        return [piece for piece in found if piece.text]
