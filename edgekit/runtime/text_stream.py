"""Text as it becomes certain, token by token.

A token of a byte-level vocabulary may be part of a character, and what a token prints can depend on the one before it
(a leading space). So the stream decodes a short window: the tokens last shown, as context, and those still pending.
The text the pending ones add is shown once no further token can change it. All pieces together are exactly what
decoding all ids at once gives.
"""

from __future__ import annotations

import re

from .tokenizer import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # how a decoder shows bytes that are no character, or not one yet
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class TextStream:
    """Turns the ids of one answer into pieces of text.

    Args:
        tokenizer: The artifact's tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []  # ids last shown
        self._pending: list[int] = []  # ids not shown, or shown in part
        self._shown = ""  # what the context prints, and what of the pending ids was shown

    def push(self, token: int) -> str:
        """Take the next id and return the text that has become certain, often empty."""
        if self._tokenizer.is_silent(token):
            return ""
        self._pending.append(token)
        # SentencePiece's byte tokens <0xE4> print as replacement characters, all of them, unless their whole run is
        # valid UTF-8: nothing of a run is certain before it ends.
        if _BYTE_TOKEN.fullmatch(self._tokenizer.token(token) or ""):
            return ""
        text = self._tokenizer.decode(self._context + self._pending)
        # Byte-level decoders replace each maximal invalid stretch by one character, so only the last may still change.
        if text.endswith(_REPLACEMENT):
            return self._advance(text[:-1])
        piece = self._advance(text)
        self._context, self._pending = self._pending, []
        self._shown = self._tokenizer.decode(self._context)
        return piece

    def flush(self) -> str:
        """The answer ends: return what was held back."""
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
