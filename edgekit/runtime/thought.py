"""Separates a reasoning model's thought from its answer.

DeepSeek-R1's template ends the prompt with ``<think>``, so the output starts inside the thought and has only the
closing tag. Other models write the opening tag themselves. Only a thought at the very start is recognized; tags in an
answer are ordinary text. Thoughts of earlier answers are removed from a reasoning model's history, because the models
were trained that way.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
_REMEMBERED = 1000  # whole answers


@dataclass(frozen=True)
class Piece:
    """A piece of generated text.

    Attributes:
        text: Whole characters, never empty.
        thought: Whether the text belongs to the thought and not to the answer.
    """

    text: str
    thought: bool = False


class _State(enum.Enum):
    START = "before the first visible character"
    THOUGHT = "inside the thought"
    GAP = "blank lines between thought and answer"
    ANSWER = "in the answer"


class ThoughtSplitter:
    """Splits streamed text into thought and answer. The tags and the white space around them belong to neither.

    Args:
        inside: Whether the prompt ended with an open thought.
        held: Whether the answer is held to a format. Then white space at its start belongs to the answer as little
            without a thought as with one: the format allows it only because a thought may come first.

    Attributes:
        answer_at: Where the answer begins in all the text so far; None while that is not known.
    """

    def __init__(self, inside: bool, *, held: bool = False) -> None:
        self._strips = held
        self.answer_at: int | None = None
        self._size = 0  # of all the text so far
        self._state = _State.THOUGHT if inside else _State.START
        self._held = ""  # text that may be the beginning of a tag, or white space before one
        self._begun = False  # whether part of the thought was returned

    @property
    def in_thought(self) -> bool:
        """Whether the text so far ends inside the thought."""
        return self._state is _State.THOUGHT

    def push(self, text: str) -> list[Piece]:
        """Add text and return the pieces that are final."""
        self._held += text
        self._size += len(text)
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def flush(self) -> list[Piece]:
        """End the output and return the text that was held back."""
        if self._state is _State.START:
            self._held = self._held.lstrip() if self._strips else self._held
            self._answer()
        held, self._held = self._held, ""
        if self._state is _State.GAP or (self._state is _State.THOUGHT and not held.strip()) or not held:
            return []
        return [Piece(held, thought=self._state is _State.THOUGHT)]

    def _step(self, pieces: list[Piece]) -> bool:
        """Process part of the held text; False if more text is needed."""
        if self._state is _State.ANSWER:
            return self._emit(pieces, len(self._held), thought=False)
        if self._state is _State.GAP:
            self._held = self._held.lstrip()
            if self._held:
                self._answer()
            return bool(self._held)
        if self._state is _State.START:
            return self._step_start()
        return self._step_thought(pieces)

    def _step_start(self) -> bool:
        visible = self._held.lstrip()
        if visible.startswith(THINK_OPEN):
            self._held = visible.removeprefix(THINK_OPEN)
            self._state = _State.THOUGHT
            return True
        if THINK_OPEN.startswith(visible):  # also if nothing is visible yet
            return False
        if self._strips:
            self._held = visible
        self._answer()
        return True

    def _answer(self) -> None:
        """The held text is the beginning of the answer."""
        self._state, self.answer_at = _State.ANSWER, self._size - len(self._held)

    def _step_thought(self, pieces: list[Piece]) -> bool:
        if not self._begun:
            self._held = self._held.lstrip()
        thought, tag, rest = self._held.partition(THINK_CLOSE)
        if tag:
            self._emit(pieces, len(thought.rstrip()), thought=True)
            self._held, self._state = rest, _State.GAP
            return True
        # Hold back white space and what may be the beginning of the tag.
        end = len(self._held) - _overlap(self._held, THINK_CLOSE)
        self._emit(pieces, len(self._held[:end].rstrip()), thought=True)
        return False

    def _emit(self, pieces: list[Piece], length: int, *, thought: bool) -> bool:
        if length == 0:
            return False
        pieces.append(Piece(self._held[:length], thought))
        self._held = self._held[length:]
        self._begun = True
        return True


def _overlap(text: str, tag: str) -> int:
    """The length of the longest suffix of ``text`` that is a proper prefix of ``tag``."""
    return next((n for n in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:n])), 0)


def starts_inside(prompt: str) -> bool:
    """Whether a rendered prompt ends with an open thought."""
    return prompt.rstrip().endswith(THINK_OPEN)


def thought_end(text: str, *, opened: bool = False, whole: bool = False) -> int | None:
    """Find the end of the thought that opens an earlier answer.

    An opening tag at the start proves a thought. Where the template opens the thought, an answer that is kept whole has
    only the closing tag, or none if it ended inside the thought; but an answer may also mention that tag. So without an
    opening tag the first closing tag ends a thought only if it stands as models write it: behind the last word or on a
    line of its own, before a blank line or the answer's first word, and not in code.

    Args:
        text: The text of an answer.
        opened: Whether the template ends a prompt inside a thought.
        whole: Whether the text is known to be everything that the model wrote.

    Returns:
        The position behind the closing tag, or the text's length if the thought never ends; None if there is none.
    """
    close = text.find(THINK_CLOSE)
    end = close + len(THINK_CLOSE) if close >= 0 else len(text)
    if text.lstrip().startswith(THINK_OPEN):
        return end
    if opened and whole:
        return end  # also if the answer ended before the thought did
    if not opened or close < 0:
        return None
    before = text[:close]
    return end if _CLOSES.match(text, close) and THINK_OPEN not in before and not _in_code(before) else None


def without_thought(text: str, *, opened: bool = True) -> str:
    """An earlier answer without its thought, for the conversation's history; see :func:`thought_end`."""
    end = thought_end(text, opened=opened)
    return text if end is None else text[end:].lstrip()


# Behind a character that is not white space, a quotation mark or a bracket, or at the start of a line; and before a
# blank line, the end, or, if it is not alone on its line, a character that is not white space.
_CLOSES = re.compile(
    r"(?:(?<=[^\s`'\"(\[{<>])" + THINK_CLOSE + r"(?=\s*\n|\s*\Z|[^\s`'\")\]}<])"
    r"|(?:(?<=\n)|\A)" + THINK_CLOSE + r"(?=[ \t]*\n[ \t]*\n|\s*\Z))"
)


def _in_code(before: str) -> bool:
    """Whether a place is inside a block or a span of Markdown's code, given the text before it."""
    fences = sum(line.lstrip().startswith(("```", "~~~")) for line in before.splitlines())
    return fences % 2 == 1 or before.rpartition("\n")[2].count("`") % 2 == 1


class WholeAnswers:
    """Remembers answers whose prompt had opened the thought, so that the thought is found if they come back whole.

    An answer that ended inside its thought has no tag. It may be a single word, which elsewhere is somebody's answer,
    so it is recognized only behind the message that it answered.
    """

    def __init__(self) -> None:
        self._digests: dict[bytes, None] = {}  # oldest first

    def add(self, asked: Sequence[Mapping[str, Any]], text: str) -> None:
        """Remember a text that the model wrote as the answer to these messages."""
        self._digests[_digest(asked[-1], text)] = None
        if len(self._digests) > _REMEMBERED:
            del self._digests[next(iter(self._digests))]

    def among(self, messages: Sequence[Mapping[str, Any]]) -> set[str]:
        """The contents of these messages that are remembered answers."""
        pairs = zip([{}, *messages], messages, strict=False)
        texts = ((before, message["content"]) for before, message in pairs if isinstance(message.get("content"), str))
        return {text for before, text in texts if _digest(before, text) in self._digests}


def _digest(before: Mapping[str, Any], text: str) -> bytes:
    """What identifies an answer: its text, and if that has no end of a thought, also the message before it."""
    parts = [text] if THINK_CLOSE in text else [text, repr(before.get("content"))]
    return hashlib.sha256("\0".join(parts).encode("utf-8", errors="surrogatepass")).digest()
