"""What to do when a conversation has outgrown the context: report it, or leave out the oldest turns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

OnFull = Literal["error", "slide"]
Message = Mapping[str, Any]
Encoded = TypeVar("Encoded", bound=Sequence[int])

_RESERVED = 4  # a quarter of the context is for the answer
_KEPT = 2  # half of the context is kept once turns are left out, so that this is rarely necessary


class Window:
    """Fits a session's conversation into the context, and remembers where its last prompt began.

    The next turn begins there too as long as it fits: so its prompt begins with the tokens of the last one, and only
    the new ones are evaluated.
    """

    def __init__(self) -> None:
        self._start: tuple[int, bytes] | None = None  # the place of the first question that was kept, and its digest

    def fitted(
        self,
        messages: Sequence[Message],
        encode: Callable[[Sequence[Message]], Encoded],
        context: int,
        answer: int | None,
        on_full: OnFull,
    ) -> tuple[Encoded, list[Message]]:
        """The prompt of a conversation and the messages in it: all of them, or those that :func:`slide` keeps.

        Args:
            messages, encode, context, answer: As for :func:`slide`.
            on_full: ``slide``, or ``error``, which leaves the prompt as it is for the caller to refuse.

        Raises:
            ValueError: ``on_full`` has another value.
        """
        if on_full not in get_args(OnFull):
            raise ValueError(f"on_full is {on_full!r}; allowed: {', '.join(get_args(OnFull))}")
        if on_full == "error":
            return encode(messages), list(messages)
        prompt, kept = slide(messages, encode, context, answer, self._last(messages))
        dropped = len(messages) - len(kept)
        if dropped:
            place = _questions(messages)[0] + dropped
            self._start = place, _digest(messages[: place + 1])
        return prompt, kept

    def _last(self, messages: Sequence[Message]) -> int | None:
        """Where the last prompt began, if these messages go on with its conversation."""
        if self._start is None:
            return None
        place, digest = self._start
        return place if place < len(messages) and _digest(messages[: place + 1]) == digest else None


def slide(
    messages: Sequence[Message],
    encode: Callable[[Sequence[Message]], Encoded],
    context: int,
    answer: int | None,
    last: int | None = None,
) -> tuple[Encoded, list[Message]]:
    """Leave out the oldest turns of a conversation that does not fit, and keep what comes before the first question.

    A turn is a question with all that follows it until the next question. The last one is always kept.

    Args:
        messages: The messages, oldest first.
        encode: Makes a prompt of messages.
        context: The largest number of tokens of prompt and answer together.
        answer: The most tokens of the answer; None if they are not limited.
        last: The place of the question to begin with if that fits, as it did in the turn before.

    Returns:
        The prompt, which may still be too long, and the messages in it.
    """
    kept = list(messages)
    prompt = encode(kept)
    reserved = context // _RESERVED if answer is None else min(answer, context // _RESERVED)
    if len(prompt) <= context - reserved:
        return prompt, kept
    questions = _questions(messages)
    starts = questions[1:]
    if last in starts:
        starts = starts[starts.index(last) :]
    for start in starts:
        kept = [*messages[: questions[0]], *messages[start:]]
        prompt = encode(kept)
        if len(prompt) <= (context - reserved if start == last else context // _KEPT):
            break
    return prompt, kept


def _questions(messages: Sequence[Message]) -> list[int]:
    """The places of the questions, each of which begins a turn."""
    return [place for place, message in enumerate(messages) if message.get("role") == "user"]


def _digest(messages: Sequence[Message]) -> bytes:
    return hashlib.sha256(repr(list(map(dict, messages))).encode("utf-8", errors="surrogatepass")).digest()
