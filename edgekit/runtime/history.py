"""What to do when a conversation has outgrown the context: report it, or leave out the oldest turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

OnFull = Literal["error", "slide"]
Message = Mapping[str, Any]
Encoded = TypeVar("Encoded", bound=Sequence[int])

_RESERVED = 4  # a quarter of the context is for the answer
_KEPT = 2  # half of the context is kept once turns are left out, so that this is rarely necessary


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
