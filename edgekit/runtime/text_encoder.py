"""Encodes a prompt in which some spellings of control tokens are text, as if the vocabulary did not have these tokens.

The tokenizers library makes a token of a special token's spelling wherever it stands. It splits a text at the added
tokens and encodes each stretch between them by itself: it is normalized, split into words, and each word is encoded by
the model. A tokenizer with the same steps and model, but without added tokens, does the same with a stretch.

For SentencePiece's vocabularies, which mark the start of the whole text, a stretch is not encoded by itself. There a
second tokenizer without the control tokens encodes the whole prompt. For each control token that stays one, the text
holds a stand-in: a private character that this tokenizer has as a token.

Either way everything else in the prompt (merges across a message's end, white space, other added tokens) is encoded as
in the plain text.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as _HfTokenizer

from ..errors import TokenizerError
from ..tokenizer_file import definition, encoding

_PRIVATE = range(0x100000, 0x10FFFE)  # Unicode's private plane 16
_ROUNDS = 8


@dataclass(frozen=True)
class Written:
    """A control token in a text.

    Attributes:
        start, end: Its characters, with the white space that the token takes in.
        token: Its id.
    """

    start: int
    end: int
    token: int


def written_tokens(
    backend: Any, text: str, marker: str, controls: Collection[int], *, concurrent: bool = False
) -> list[Written]:
    """Where a tokenizer makes control tokens of a text, except those with a mark.

    Args:
        backend: A ``tokenizers.Tokenizer``.
        text: Any text.
        marker: The mark, or "" if the text has none.
        controls: Ids of the control tokens.
        concurrent: As for :func:`~edgekit.tokenizer_file.encoding`.
    """
    encoded = encoding(backend, text, concurrent=concurrent)
    pairs = zip(encoded.ids, encoded.offsets, strict=True)
    found = [Written(start, end, i) for i, (start, end) in pairs if i in controls]
    return [token for token in found if not _has_mark(text, marker, token)] if marker else found


def _has_mark(text: str, marker: str, token: Written) -> bool:
    """Whether a mark stands behind the first character of a control token."""
    spelled = text[token.start : token.end]
    if len(spelled.strip()) > 1:
        return marker in spelled
    return text.startswith(marker, token.start + len(spelled.rstrip()))


class TextEncoder:
    """A tokenizer for prompts whose messages spell control tokens.

    Args:
        backend: The artifact's tokenizer, a ``tokenizers.Tokenizer``.
        concurrent: As for :func:`~edgekit.tokenizer_file.encoding`.
    """

    def __init__(self, backend: Any, *, concurrent: bool = False) -> None:
        self._backend, self._concurrent = backend, concurrent
        self._bare = _HfTokenizer(backend.model)  # without added tokens; shares the vocabulary
        if backend.normalizer is not None:
            self._bare.normalizer = backend.normalizer
        if backend.pre_tokenizer is not None:
            self._bare.pre_tokenizer = backend.pre_tokenizer
        steps = [step.__getstate__() for step in (backend.normalizer, backend.pre_tokenizer) if step is not None]
        self._by_stretch = not any(name in step for step in steps for name in (b"Metaspace", b"Prepend"))
        self._controls: frozenset[int] = frozenset()
        self._tokenizer: Any = None
        self._stands = ("", "")  # for tokens that are found before normalization, and after
        self._ids: dict[int, int] = {}  # of added tokens, in the artifact's vocabulary

    def encode(self, marked: str, marker: str, written: Sequence[Written], controls: Collection[int]) -> list[int]:
        """Encode a prompt.

        Args:
            marked: The prompt with its marks.
            marker: The mark.
            written: The added tokens that stay tokens, in order.
            controls: The ids of all control tokens.

        Raises:
            TokenizerError: The vocabulary has no other way to write a control token's spelling.
        """
        encode = self._encode_stretches if self._by_stretch else self._encode_whole
        return encode(marked, marker, written, frozenset(controls))

    def _encode_whole(
        self, marked: str, marker: str, written: Sequence[Written], controls: frozenset[int]
    ) -> list[int]:
        """Encode with the second tokenizer."""
        while self._controls != controls or any(stand in marked for stand in self._stands):
            self._build(controls)
        added = self._backend.get_added_tokens_decoder()
        pieces, tokens, end = [], [], 0
        for each in written:
            if each.token not in controls:  # the second tokenizer has it too
                continue
            kind = added.get(each.token)
            pieces += [marked[end : each.start], self._stands[bool(kind is not None and kind.normalized)]]
            tokens.append(each.token)
            end = each.end
        text = "".join([*pieces, marked[end:]]).replace(marker, "")
        return self._encode(text, tokens)

    def _encode_stretches(
        self, marked: str, marker: str, written: Sequence[Written], controls: frozenset[int]
    ) -> list[int]:
        ids: list[int] = []
        end = 0
        for each in written:
            ids += [*self._encode_stretch(marked[end : each.start].replace(marker, ""), controls), each.token]
            end = each.end
        return ids + self._encode_stretch(marked[end:].replace(marker, ""), controls)

    def _encode_stretch(self, text: str, controls: frozenset[int]) -> list[int]:
        """Encode text without added tokens."""
        if not text:
            return []
        ids: list[int] = encoding(self._bare, text, concurrent=self._concurrent).ids
        if controls.isdisjoint(ids):
            return ids
        if len(text) < 2:
            raise _unwritable()
        # The model itself holds a control token's spelling. Halves of the text cannot spell it whole.
        middle = len(text) // 2
        return self._encode_stretch(text[:middle], controls) + self._encode_stretch(text[middle:], controls)

    def _encode(self, text: str, tokens: list[int | None] | list[int]) -> list[int]:
        """Encode a text with stand-ins for these tokens; None stands for a break without a token."""
        slots: list[int | None] = list(tokens)
        for _ in range(_ROUNDS):
            encoded = encoding(self._tokenizer, text, concurrent=self._concurrent)
            ids, waiting, leaked = [], iter(slots), []
            for found, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
                token = next(waiting) if self._ids.get(found, 0) < 0 else self._ids.get(found, found)
                if token is None:
                    continue
                if self._ids.get(found, 0) >= 0 and token in self._controls:
                    leaked.append((start, end))
                ids.append(token)
            if not leaked:
                return ids
            text, slots = self._broken(text, slots, leaked)
        raise _unwritable()

    def _broken(
        self, text: str, slots: list[int | None], leaked: list[tuple[int, int]]
    ) -> tuple[str, list[int | None]]:
        """Break spellings that the vocabulary itself holds, as a model of SentencePiece's may."""
        if any(end - start < 2 for start, end in leaked):
            raise _unwritable()
        pieces, broken, end = [], [], 0
        waiting = iter(slots)
        for start, _ in leaked:
            pieces.append(text[end : start + 1])
            broken += [next(waiting) for c in pieces[-1] if c in self._stands] + [None]
            end = start + 1
        return self._stands[0].join([*pieces, text[end:]]), [*broken, *waiting]

    def _build(self, controls: frozenset[int]) -> None:
        """Make the tokenizer without these tokens, and with stand-ins that no text is likely to hold."""
        described = json.loads(definition(self._backend))
        described["added_tokens"] = [t for t in described["added_tokens"] if t["id"] not in controls]
        described["post_processor"] = None
        first, second = (chr(code) for code in secrets.SystemRandom().sample(_PRIVATE, 2))
        tokenizer = _HfTokenizer.from_str(json.dumps(described))
        stands = [AddedToken(first, normalized=False), AddedToken(second, normalized=True)]
        tokenizer.add_tokens(stands)
        known = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items()}
        self._ids = {
            i: -1 if content in (first, second) else self._backend.token_to_id(content) for i, content in known.items()
        }
        self._tokenizer, self._stands, self._controls = tokenizer, (first, second), controls


def _unwritable() -> TokenizerError:
    return TokenizerError(
        "a message spells a control token that this vocabulary cannot write as text",
        hint="remove control tokens, such as <s> or <|im_end|>, from the messages",
    )
