"""What to do when a conversation has outgrown the context: report it, or leave out the oldest turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

OnFull = Literal["error", "slide"]
Message = Mapping[str, Any]
Encoded = TypeVar("Encoded", bound=Sequence[int])

_RESERVED = 4  # a quarter of the context is for the answer
_KEPT = 2  # half of the context is kept once turns are left out, so that this is rarely necessary


def fitted(
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
    if on_full == "slide":
        return slide(messages, encode, context, answer)
    return encode(messages), list(messages)


def slide(
    messages: Sequence[Message], encode: Callable[[Sequence[Message]], Encoded], context: int, answer: int | None
) -> tuple[Encoded, list[Message]]:
    """Leave out the oldest turns of a conversation that does not fit, and keep what comes before the first question.

    A turn is a question with all that follows it until the next question. The last one is always kept.

    Args:
        messages: The messages, oldest first.
        encode: Makes a prompt of messages.
        context: The largest number of tokens of prompt and answer together.
        answer: The most tokens of the answer; None if they are not limited.

    Returns:
        The prompt, which may still be too long, and the messages in it.
    """
    kept = list(messages)
    prompt = encode(kept)
    reserved = context // _RESERVED if answer is None else min(answer, context // _RESERVED)
    if len(prompt) <= context - reserved:
        return prompt, kept
    questions = [place for place, message in enumerate(messages) if message.get("role") == "user"]
    for start in questions[1:]:
        kept = [*messages[: questions[0]], *messages[start:]]
        prompt = encode(kept)
        if len(prompt) <= context // _KEPT:
            break
    return prompt, kept
