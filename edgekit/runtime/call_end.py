"""Finds the end of a call that a model writes: a closing tag inside of a string of its JSON does not end it.

Used by ``tool_calls.py``. The text arrives in pieces, and each character of it is looked at once.
"""

from __future__ import annotations

import re

_MOST_TAGS = 30  # in the strings of a call; with more, the first one ends it, so that no text is read many times


class CallEnd:
    """Looks for the end of a block of calls in a text that grows.

    Args:
        tag: The closing tag. Empty if the block is a JSON object, which ends with its last brace.

    Attributes:
        first: Where the first closing tag ends; -1 before there is one.
        end: Where the block ends; -1 before that is known.
    """

    def __init__(self, tag: str) -> None:
        self.first = self.end = -1
        self._tag = tag
        parts = [re.escape(tag)] if tag else []
        self._token = re.compile("|".join([r"\\.", r'["{}\x00-\x1f]', *parts]), re.DOTALL)
        self._at = self._depth = self._tags = 0
        self._is_string = self._is_broken = False

    def look(self, text: str) -> int:
        """Look at what has been added.

        Args:
            text: The block's text so far, which begins with that of the call before.

        Returns:
            :attr:`end`.
        """
        while self.end < 0 and (found := self._token.search(text, self._at)) is not None:
            self._at = found.end()
            self._take(found)
        if self.end < 0:
            self._at = max(self._at, len(text) - self._unfinished(text))
        return self.end

    def _take(self, found: re.Match[str]) -> None:
        part = found[0]
        if part[0] == "\\":
            if not self._is_string:
                self._at = found.start() + 1
        elif part == self._tag:
            self._tags += 1
            self.first = found.end() if self.first < 0 else self.first
            if not self._is_string:
                self.end = found.end()
            elif self._tags > _MOST_TAGS:
                self.end = self.first
        elif part == '"':
            self._is_string = not self._is_string and self._depth > 0 and not self._is_broken
        elif not self._is_string and part in "{}":
            self._depth = max(self._depth + (1 if part == "{" else -1), 0)
            if not self._tag and part == "}" and self._depth == 0:
                self.end = found.end()
        elif self._is_string and part not in "{}":  # JSON has no line breaks in strings
            self._is_string, self._is_broken = False, True
            self.end = self.first

    def _unfinished(self, text: str) -> int:
        """How many characters at the end may be the beginning of a tag or of an escape."""
        most = min(len(text) - self._at, max(len(self._tag) - 1, 1))
        return next((n for n in range(most, 0, -1) if self._tag.startswith(text[-n:]) or text[-n:] == "\\"), 0)
