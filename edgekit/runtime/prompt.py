"""Keeps the text of messages text: no control token comes out of it, whatever a user writes.

Tokenizers turn the spelling of a special token into that token wherever it stands. In a rendered prompt that would let
a user end their own turn and open a system turn. So every place where a message, a tool or a document spells a control
token is marked before the template sees it: a private character, which occurs nowhere in the messages, is put behind
the spelling's first character. In the rendered prompt the spellings without a mark are those that the template wrote.
:class:`~edgekit.runtime.tokenizer.Tokenizer` makes tokens of these alone and removes the marks.

The mark also keeps a template from taking an answer that mentions ``</think>`` for the end of a thought.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from .thought import THINK_CLOSE, THINK_OPEN

_PRIVATE = range(0xF0000, 0xFFFFE)  # Unicode's private plane 15: no text, and no tokenizer knows it
_TURN = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][\w.:-]*>|\[/?[A-Z_]+\]")
_CHANGES_CASE = re.compile(r"lower|upper|capitalize|title|swapcase|casefold")

# Takes a text, the mark in it and spellings. Returns the places that a tokenizer's normalizer turns into these tokens.
Find = Callable[[str, str, Collection[str]], list[int]]


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt that knows which control tokens the template wrote.

    Attributes:
        marked: The text with its marks.
        marker: The mark, one character; empty if there are no marks.
        controls: The spellings of the control tokens, which are tokens where they have no mark.
    """

    marked: str
    marker: str = ""
    controls: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The prompt as the template wrote it."""
        return self.marked.replace(self.marker, "") if self.marker else self.marked

    def followed_by(self, text: str) -> Prompt:
        """The prompt and a text in which control tokens are tokens, such as an answer of the model's own."""
        return Prompt(self.marked + text, self.marker, self.controls)


@dataclass(frozen=True)
class ControlTokens:
    """The control tokens of a tokenizer and a template.

    Attributes:
        everywhere: Spellings that no message may turn into tokens: special tokens, tokens that look like them
            (``<|User|>``), and the tags of a thought.
        outside_answers: Other tags, such as ``<tool_call>``, and what else the template writes. An answer may hold
            these tokens, because the model has written them there.
        changes_case: Whether the template changes the case of letters, so that other spellings may become these.
        find: Finds what a normalizer turns into control tokens; None if the tokenizer has none that could.
    """

    everywhere: frozenset[str] = frozenset((THINK_OPEN, THINK_CLOSE))
    outside_answers: frozenset[str] = frozenset()
    changes_case: bool = False
    find: Find | None = None

    @classmethod
    def of(cls, added: Mapping[str, bool], template: str, find: Find | None = None) -> ControlTokens:
        """Choose the control tokens.

        Args:
            added: The tokenizer's added tokens, and whether each is special. Some vocabularies add runs of white space
                or words, which are ordinary text.
            template: The template's source.
            find: As above.
        """
        named = {text: special for text, special in added.items() if text.strip()}
        always = {text for text, special in named.items() if special or _TURN.fullmatch(text)}
        always |= {THINK_OPEN, THINK_CLOSE}
        others = {text for text in named if _TAG.fullmatch(text) or text in template} - always
        return cls(frozenset(always), frozenset(others), bool(_CHANGES_CASE.search(template)), find)

    @property
    def all(self) -> frozenset[str]:
        return self.everywhere | self.outside_answers


class Marks:
    """Marks control tokens in the strings of one conversation.

    Args:
        tokens: What is marked.
        texts: All strings of the conversation; the mark is a character that is in none of them.
    """

    def __init__(self, tokens: ControlTokens, texts: Iterable[str]) -> None:
        self._tokens = tokens
        self.marker = _unused(texts)
        self._user = _Spellings(tokens.all, tokens.changes_case)
        self._answer = _Spellings(tokens.everywhere, tokens.changes_case)

    def mark(self, text: str, *, answer: bool = False) -> str:
        """Mark the control tokens in a text.

        Args:
            text: A string of the conversation.
            answer: Whether the model wrote it.
        """
        spellings = self._answer if answer else self._user
        places = spellings.places(text)
        find = self._tokens.find
        if not places and find is None:
            return text
        marked = self._inserted(text, places)
        while find is not None and (more := find(marked, self.marker, spellings.texts)):
            marked = self._inserted(marked, more)
        return marked

    def _inserted(self, text: str, places: Collection[int]) -> str:
        """Put a mark behind the first character of each place."""
        pieces, end = [], 0
        for place in sorted(places):
            pieces.append(text[end : place + 1])
            end = place + 1
        return self.marker.join([*pieces, text[end:]]) if pieces else text


class _Spellings:
    """Finds where a text spells a token, or begins to at its end."""

    def __init__(self, texts: frozenset[str], changes_case: bool) -> None:
        self.texts = texts
        self._fold = _folded if changes_case else str
        by_first: dict[str, list[str]] = {}
        for text in texts:
            by_first.setdefault(self._fold(text)[0], []).append(self._fold(text))
        self._by_first = {first: tuple(found) for first, found in by_first.items()}
        self._longest = max(map(len, texts), default=0)

    def places(self, text: str) -> list[int]:
        """The positions of the first characters.

        The text's end counts if a token may go on in what follows: the next message, or the template's own text.
        """
        folded = self._fold(text)
        end = len(folded.rstrip())
        tail = end - self._longest
        found = []
        for first, spellings in self._by_first.items():
            place = folded.find(first)
            while place >= 0:
                rest = folded[place:end] if place > tail else ""
                begun = rest and any(len(s) > len(rest) and s.startswith(rest) for s in spellings)
                if begun or folded.startswith(spellings, place):
                    found.append(place)
                place = folded.find(first, place + 1)
        return found


def _folded(text: str) -> str:
    """The text in lower case, each character in its place."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _unused(texts: Iterable[str]) -> str:
    """A private character that is in none of the texts."""
    known = list(texts)
    for _ in range(100):
        found = chr(secrets.choice(_PRIVATE))
        if not any(found in text for text in known):
            return found
    used = set().union(*known)
    for code in _PRIVATE:
        if chr(code) not in used:
            return chr(code)
    raise ValueError("the messages hold every character of Unicode's private plane 15; one of them must be free")
