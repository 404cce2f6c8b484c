"""Decodes tokens to text one by one. Text is returned as soon as it is final.

A token of a byte-level vocabulary may be only part of a character, and the text of a token can depend on the token
before it (a leading space). So the stream decodes a short window: the last tokens that were returned, as context, and
the pending tokens. The text of pending tokens is returned when no later token can change it. All pieces together are
exactly the text of all ids decoded at once.
"""

from __future__ import annotations

import re

from .tokenizer import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # a decoder's output for invalid or incomplete characters
_MOST_PENDING, _KEPT_PENDING = 16, 8  # ids; a token has at least one byte, and a character at most four
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class TextStream:
    """Decodes the ids of one answer to pieces of text.

    Args:
        tokenizer: The artifact's tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []  # ids whose text was returned last
        self._pending: list[int] = []  # ids whose text was not returned, or only in part
        self._shown = ""  # the text of the context, and the part of the pending text that was returned

    @property
    def is_whole(self) -> bool:
        """Whether no text is held back."""
        return not self._pending

    def push(self, token: int) -> str:
        """Add the next id and return the text that has become final, which is often empty."""
        if self._tokenizer.is_silent(token):
            return ""
        self._pending.append(token)
        # A run of SentencePiece's byte tokens (<0xE4>) decodes to replacement characters unless the whole run is valid
        # UTF-8, so none of its text is final before the run ends.
        if _BYTE_TOKEN.fullmatch(self._tokenizer.token(token) or ""):
            return ""
        text = self._tokenizer.decode(self._context + self._pending)
        # Byte-level decoders replace each run of invalid bytes by one character, so only the last one can still change.
        if text.endswith(_REPLACEMENT):
            piece = self._advance(text[:-1])
            if len(self._pending) > _MOST_PENDING:  # all but the last bytes are final
                self._context, self._pending = [], self._pending[-_KEPT_PENDING:]
                self._shown = self._tokenizer.decode(self._pending)[:-1]
            return piece
        piece = self._advance(text)
        self._context, self._pending = self._pending, []
        self._shown = self._tokenizer.decode(self._context)
        return piece

    def flush(self) -> str:
        """End the answer and return the text that was held back."""
        if not self._pending:
            return ""
        piece = self._advance(self._tokenizer.decode(self._context + self._pending))
        self._context, self._pending, self._shown = [], [], ""
        return piece

    def _advance(self, text: str) -> str:
        piece = text[len(self._shown) :]
        if piece:
            self._shown = text
        return piece
