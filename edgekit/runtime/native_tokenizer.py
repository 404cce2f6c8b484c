"""Encodes and decodes text with the native library, where Hugging Face's tokenizers library is not installed.

The ids are the same. The native library reads ``edgekit_text.bin``, which a build writes for byte-level vocabularies;
the spellings of tokens are in ``tokenizer.json``.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import EngineError, MissingPackageError, TokenizerError
from ..json_file import read_json_object
from ..native.text import NO_BOS, PLAIN, NativeText
from .prompt import ControlTokens, Prompt
from .token_bound import most_bytes_of_token
from .tokenizer import TOKENIZER_FILE, Tokenizer, named_tokens

TEXT_FILE = "edgekit_text.bin"


class NativeTokenizer(Tokenizer):
    """An artifact's tokenizer in the native library.

    Args:
        text: The artifact's tables.
        described: The content of ``tokenizer.json``.
        bos, add_bos, special_tokens: As for :class:`Tokenizer`.
    """

    def __init__(
        self,
        text: NativeText,
        described: Mapping[str, Any],
        *,
        bos: int | None,
        add_bos: bool,
        special_tokens: dict[str, str] | None = None,
    ) -> None:
        self.bos = bos
        self.add_bos = add_bos and bos is not None
        self.special_tokens = special_tokens or {}
        self._text = text
        weakref.finalize(self, text.close)
        self._added: dict[str, Mapping[str, Any]] = {token["content"]: token for token in described["added_tokens"]}
        self._by_token: dict[str, int] = dict(described["model"]["vocab"])
        self._by_token |= {content: int(token["id"]) for content, token in self._added.items()}
        self._by_id = {index: token for token, index in self._by_token.items()}
        self._skipped = {int(token["id"]) for token in self._added.values() if token.get("special")}
        self._patterns: dict[frozenset[str], re.Pattern[str]] = {}
        self._described = described

    @classmethod
    def open(cls, folder: Path, tokens: Mapping[str, Any], *, concurrent: bool = False) -> NativeTokenizer:
        """Open the tokenizer of an artifact.

        Args:
            folder: The artifact.
            tokens: As for :meth:`Tokenizer.open`.
            concurrent: Has no effect: other threads always run while the native library encodes.

        Raises:
            MissingPackageError: The native library has no tokenizer for this artifact.
            TokenizerError: A file is missing or not valid.
        """
        if not (folder / TEXT_FILE).is_file():
            raise MissingPackageError.for_extra("build", ["tokenizers"], f"{folder}, which has no {TEXT_FILE},")
        described = read_json_object(folder / TOKENIZER_FILE, error=TokenizerError)
        try:
            text = NativeText(folder)
            opened = cls(text, described, bos=tokens.get("bos"), add_bos=bool(tokens.get("add_bos")))
        except EngineError as error:
            raise TokenizerError(error.message, hint=error.hint) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TokenizerError(f"{folder / TOKENIZER_FILE} cannot be used: {error!r}") from None
        opened.special_tokens = named_tokens(folder, tokens, opened.token)
        return opened

    def _ids(self, text: str | Prompt, plain: str) -> list[int]:
        """Control tokens that the template wrote are tokens; between them there is text alone."""
        if isinstance(text, str):
            return self._encode(plain, NO_BOS)
        controls = frozenset(token for token in text.controls if token in self._by_token)
        ids: list[int] = []
        end = 0
        for found in self._pattern(controls).finditer(text.marked) if controls else ():
            ids += self._encode(self._unmarked(text, end, found.start()), NO_BOS | PLAIN)
            ids.append(self._by_token[found[found.lastindex or 0]])
            end = found.end()
        return ids + self._encode(self._unmarked(text, end, len(text.marked)), NO_BOS | PLAIN)

    @staticmethod
    def _unmarked(prompt: Prompt, start: int, end: int) -> str:
        piece = prompt.marked[start:end]
        return piece.replace(prompt.marker, "") if prompt.marker else piece

    def _encode(self, text: str, flags: int) -> list[int]:
        try:
            return self._text.encode(text, flags) if text else []
        except EngineError as error:
            raise TokenizerError(error.message, hint=error.hint) from None

    def _pattern(self, controls: frozenset[str]) -> re.Pattern[str]:
        """Finds these tokens, the longest first, with the white space that each takes in. One group is the token."""
        if controls not in self._patterns:
            longest_first = sorted(controls, key=lambda token: (-len(token), token))
            self._patterns[controls] = re.compile("|".join(self._alternative(token) for token in longest_first))
        return self._patterns[controls]

    def _alternative(self, token: str) -> str:
        added = self._added.get(token, {})
        word = (r"(?<!\w)", r"(?!\w)") if added.get("single_word") else ("", "")
        # A run of white space is searched from its beginning alone; from each of its characters takes quadratic time.
        left = r"(?:(?<!\s)\s+)?" if added.get("lstrip") else ""
        right = r"\s*" if added.get("rstrip") else ""
        return f"{left}{word[0]}({re.escape(token)}){word[1]}{right}"

    @cached_property
    def _most_bytes(self) -> int | None:
        """As for :class:`Tokenizer`."""
        described = self._described
        added = [{"lstrip": False, "rstrip": False, **token} for token in described["added_tokens"]]
        return most_bytes_of_token(
            described.get("normalizer"), described.get("pre_tokenizer"), described["model"]["vocab"], added
        )

    def control_tokens(self, template: str) -> ControlTokens:
        """As for :class:`Tokenizer`. What a normalizer makes of a message stays text: see :meth:`_ids`."""
        return ControlTokens.of({token: bool(t.get("special")) for token, t in self._added.items()}, template)

    def definition(self) -> str:
        """As for :class:`Tokenizer`."""
        return json.dumps(self._described)

    def decode(self, ids: Sequence[int]) -> str:
        """As for :class:`Tokenizer`."""
        return self._text.decode(ids).decode("utf-8")

    def token(self, index: int) -> str | None:
        """As for :class:`Tokenizer`."""
        return self._by_id.get(index)

    def token_id(self, token: str) -> int | None:
        """As for :class:`Tokenizer`."""
        return self._by_token.get(token)
