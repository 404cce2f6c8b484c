"""Encodes and decodes text with the artifact's ``tokenizer.json`` and Hugging Face's tokenizers library.

Where that library is not installed, ``native_tokenizer.py`` does so with the native library, with the same ids.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TokenizerError
from ..json_file import read_bounded, read_json_object
from ..tokenizer_file import definition, encoding, library_errors, load_tokenizer
from .prompt import ControlTokens, Prompt
from .token_bound import most_bytes_of_token

if TYPE_CHECKING:
    from .text_encoder import TextEncoder

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
_MANY_IDS = 1000  # decoding takes longer than starting the library's threads


class Tokenizer:
    """An artifact's tokenizer.

    Args:
        backend: A ``tokenizers.Tokenizer``.
        bos: Id of the beginning-of-sequence token, or None.
        add_bos: Whether every text should start with that token.
        special_tokens: Special tokens by the names that chat templates use: ``{"bos_token": "<s>", ...}``.
        concurrent: Whether other threads run while a text is encoded; see :func:`~edgekit.tokenizer_file.encoding`.
    """

    def __init__(
        self,
        backend: Any,
        *,
        bos: int | None,
        add_bos: bool,
        special_tokens: dict[str, str] | None = None,
        concurrent: bool = False,
    ) -> None:
        self.bos = bos
        self.add_bos = add_bos and bos is not None
        self.special_tokens = special_tokens or {}
        self._backend, self._concurrent = backend, concurrent
        self._plain: TextEncoder | None = None  # made when a message spells a control token for the first time
        self._skipped = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}

    @classmethod
    def open(cls, folder: Path, tokens: Mapping[str, Any], *, concurrent: bool = False) -> Tokenizer:
        """Open the tokenizer in a folder.

        Args:
            folder: Holds ``tokenizer.json`` and, optionally, ``tokenizer_config.json``.
            tokens: The special token ids in the form of an artifact's manifest: ``bos``, ``eos``, ``pad``, ``add_bos``.
            concurrent: As above.

        Raises:
            TokenizerError: A file is missing or not valid.
        """
        if find_spec("tokenizers") is None:
            from .native_tokenizer import NativeTokenizer

            return NativeTokenizer.open(folder, tokens, concurrent=concurrent)
        path = folder / TOKENIZER_FILE
        if not path.is_file():
            raise TokenizerError(f"{folder} has no {TOKENIZER_FILE}")
        backend = load_tokenizer(read_bounded(path, error=TokenizerError), str(path))
        backend.no_truncation()
        backend.no_padding()
        return cls(
            backend,
            bos=tokens.get("bos"),
            add_bos=bool(tokens.get("add_bos")),
            special_tokens=named_tokens(folder, tokens, backend.id_to_token),
            concurrent=concurrent,
        )

    @property
    def backend(self) -> Any:
        """The ``tokenizers.Tokenizer``."""
        return self._backend

    def definition(self) -> str:
        """The tokenizer as the content of a ``tokenizer.json``."""
        return definition(self._backend)

    def encode(self, text: str | Prompt, add_bos: bool | None = None) -> list[int]:
        """Encode text to ids.

        In a string, special tokens become their ids wherever they are spelled. In a :class:`Prompt` only those that the
        chat template wrote do; what a message spells stays text.

        The ids start with at most one beginning-of-sequence token, even if the text starts with several (a chat
        template writes one). With ``add_bos`` they start with exactly one.

        Args:
            text: Any text, or a rendered prompt.
            add_bos: Whether to start with the beginning-of-sequence token; None uses the model's default.

        Raises:
            ValueError: The text contains a lone surrogate.
            TokenizerError: The vocabulary has no way to write the spelling of a control token as text.
        """
        plain = text.text if isinstance(text, Prompt) else text
        try:
            plain.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text is not valid Unicode: it has a lone surrogate at position {error.start}"
            ) from None
        ids = self._ids(text, plain)
        if self.bos is None:
            return ids
        leading = next((i for i, token in enumerate(ids) if token != self.bos), len(ids))
        wanted = self.add_bos if add_bos is None else add_bos
        return [self.bos, *ids[leading:]] if wanted or leading else ids

    def least_tokens(self, text: str | Prompt) -> int:
        """How many tokens a text has at least, known from its size; 0 if this vocabulary allows no such statement."""
        if self._most_bytes is None:
            return 0
        size = len((text.text if isinstance(text, Prompt) else text).encode("utf-8", errors="surrogatepass"))
        return -(-size // self._most_bytes)

    @cached_property
    def _most_bytes(self) -> int | None:
        """The most bytes of a text that one token may stand for, if that is known."""
        backend = self._backend
        if type(backend.model).__name__ != "BPE":
            return None
        normalizer, splitter = (
            None if step is None else json.loads(step.__getstate__())
            for step in (backend.normalizer, backend.pre_tokenizer)
        )
        added = [
            {"content": token.content, "lstrip": token.lstrip, "rstrip": token.rstrip}
            for token in backend.get_added_tokens_decoder().values()
        ]
        return most_bytes_of_token(normalizer, splitter, backend.get_vocab(with_added_tokens=False), added)

    def _ids(self, text: str | Prompt, plain: str) -> list[int]:
        """The ids of a text or a prompt, whose text without marks is ``plain``, as they come."""
        ids: list[int] = encoding(self._backend, plain, concurrent=self._concurrent).ids
        if isinstance(text, Prompt) and text.marker and text.marker in text.marked:
            return self._with_text_for(text, plain, ids)
        return ids

    def _with_text_for(self, prompt: Prompt, plain: str, ids: list[int]) -> list[int]:
        """The ids of a prompt with marks; ``plain`` is the prompt without them, and ``ids`` are its ids."""
        controls = {i for t in prompt.controls if (i := self.token_id(t)) is not None}
        if controls.isdisjoint(ids):
            return ids
        from .text_encoder import TextEncoder, Written, written_tokens  # imports tokenizers

        written = written_tokens(self._backend, prompt.marked, prompt.marker, controls, concurrent=self._concurrent)
        before = accumulate(prompt.marked, lambda n, c: n + (c == prompt.marker), initial=0)
        shift = list(before)
        same = [Written(w.start - shift[w.start], w.end - shift[w.end], w.token) for w in written]
        if same == written_tokens(self._backend, plain, "", controls, concurrent=self._concurrent):
            return ids  # the marks stand where no control token came about
        if self._plain is None:
            self._plain = TextEncoder(self._backend, concurrent=self._concurrent)
        added = controls | set(self._backend.get_added_tokens_decoder())
        written = written_tokens(self._backend, prompt.marked, prompt.marker, added, concurrent=self._concurrent)
        return self._plain.encode(prompt.marked, prompt.marker, written, controls)

    def control_tokens(self, template: str) -> ControlTokens:
        """The control tokens of this tokenizer and a chat template.

        Args:
            template: The template's source.
        """
        added = self._backend.get_added_tokens_decoder().values()
        normalized = frozenset(t.content for t in added if t.normalized)
        find = self._normalized_places if self._backend.normalizer is not None and normalized else None
        return ControlTokens.of({t.content: bool(t.special) for t in added}, template, find)

    def _normalized_places(self, text: str, marker: str, spellings: Collection[str]) -> list[int]:
        """Where a text without these spellings becomes a control token when it is normalized."""
        with library_errors("the tokenizer cannot normalize the text"):
            if self._backend.normalizer.normalize_str(text) == text:
                return []
        from .text_encoder import written_tokens

        controls = {i for t in spellings if (i := self.token_id(t)) is not None}
        written = written_tokens(self._backend, text, marker, controls, concurrent=self._concurrent)
        return [w.start for w in written]

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text. Special tokens, and ids without a token (in padded vocabularies), are left out."""
        with library_errors("the tokenizer cannot decode the tokens"):
            if self._concurrent and len(ids) > _MANY_IDS:
                return str(self._backend.decode_batch([list(ids)], skip_special_tokens=True)[0])
            return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def token(self, index: int) -> str | None:
        """A token as spelled in the vocabulary, or None if the id has no token."""
        found: str | None = self._backend.id_to_token(index)
        return found

    def token_id(self, token: str) -> int | None:
        """The id of a token as spelled in the vocabulary, or None if there is no such token."""
        found: int | None = self._backend.token_to_id(token)
        return found

    def is_silent(self, index: int) -> bool:
        """Whether :meth:`decode` leaves this id out: it is a special token or has no token."""
        return index in self._skipped or self.token(index) is None


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Read ``tokenizer_config.json``; returns an empty dictionary if the file does not exist.

    Raises:
        TokenizerError: The file cannot be read or is not a JSON object.
    """
    path = folder / CONFIG_FILE
    return read_json_object(path, error=TokenizerError) if path.is_file() else {}


def named_tokens(folder: Path, tokens: Mapping[str, Any], spelling: Callable[[int], str | None]) -> dict[str, str]:
    """Special tokens by the names that chat templates use.

    Args:
        folder: Holds ``tokenizer_config.json``, if there is one.
        tokens: As for :meth:`Tokenizer.open`.
        spelling: The token with an id.
    """
    special = {"bos_token": tokens.get("bos"), "eos_token": next(iter(tokens["eos"]), None)}
    spelled = {name: spelling(i) for name, i in special.items() if i is not None}
    names = {name: str(token) for name, token in spelled.items() if token is not None}
    return names | _special_tokens(read_tokenizer_config(folder))


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """``bos_token``, ``eos_token``, ... of a tokenizer_config.json; each is a string or ``{"content": string}``."""
    found = {}
    for name, value in config.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            found[name] = content
    return found
