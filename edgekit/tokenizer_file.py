"""Opens a ``tokenizer.json`` with Hugging Face's tokenizers library, for a checkpoint and for an artifact alike.

The file comes from others. What the library cannot use is an error, and so is a file whose steps make much text of
little: the library replaces each match of a pattern by a text of any length, and each byte by a character.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import TokenizerError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MAX_GROWTH = 1000  # characters that one character may become; in use: 3, the bytes of "▁", or 4, those of "🙂"
_BYTES = 4  # of a character in UTF-8, each of which becomes a character with ByteLevel
_MOST_TOKENS = 1 << 24  # the largest vocabulary in use has 262144


def load_tokenizer(content: bytes, what: str) -> Tokenizer:
    """Load a ``tokenizer.json``.

    Args:
        content: The file's content. The library would open a path as UTF-8, whatever the locale.
        what: The file's name, for error messages.

    Raises:
        TokenizerError: The library rejects it, or its steps make too much text.
    """
    from tokenizers import Tokenizer

    with library_errors(f"{what} cannot be used: it is not a valid tokenizer"):
        loaded = Tokenizer.from_buffer(content)
    for name, steps in (
        ("normalizer and pre_tokenizer", (loaded.normalizer, loaded.pre_tokenizer)),
        ("decoder", (loaded.decoder,)),
    ):
        growth = _growth([json.loads(step.__getstate__()) for step in steps if step is not None])
        if growth > _MAX_GROWTH:
            raise TokenizerError(
                f"{what}: its {name} may make {growth} characters of one; at most {_MAX_GROWTH} are allowed"
            )
    return loaded


def encoding(tokenizer: Tokenizer, text: str, *, concurrent: bool = False) -> Any:
    """Encode a text without special tokens: a ``tokenizers.Encoding``.

    Args:
        tokenizer: The tokenizer.
        text: The text.
        concurrent: Whether other threads of Python run meanwhile. The library then uses its threads, unless the
            variable ``TOKENIZERS_PARALLELISM`` is ``false``; a process that has used them should not fork.
    """
    with library_errors("the tokenizer cannot encode the text"):
        if concurrent:  # the library keeps Python's lock while it encodes a single text, for seconds if that is long
            return tokenizer.encode_batch([text], add_special_tokens=False)[0]
        return tokenizer.encode(text, add_special_tokens=False)


@contextmanager
def library_errors(what: str, kind: type[Exception] = TokenizerError) -> Iterator[None]:
    """Tell what a library in Rust, such as tokenizers, raises as another error.

    Args:
        what: What the message begins with.
        kind: The error.
    """
    try:
        yield
    except Exception as error:  # tokenizers raises plain Exception
        raise kind(f"{what} ({_one_line(error)})") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a failed assertion in the library, which is not an Exception
            raise
        raise kind(f"{what} ({_one_line(error)})") from None


def definition(tokenizer: Tokenizer) -> str:
    """A tokenizer as the content of a ``tokenizer.json``.

    Raises:
        TokenizerError: The vocabulary has an id that no model has a row for.
    """
    # The library makes a list as long as the highest id, and ends the process if there is no memory for it.
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if highest >= _MOST_TOKENS:
        raise TokenizerError(f"the tokenizer has a token with the id {highest}; allowed: 0 to {_MOST_TOKENS - 1}")
    return tokenizer.to_str()


def _growth(step: Any) -> int:
    """How many characters a step with all its own steps may make of one."""
    if isinstance(step, list):
        return _growth({"steps": step})
    if not isinstance(step, dict):
        return 1
    texts = [len(text) for key in ("content", "prepend") if isinstance(text := step.get(key), str)]
    growth = max([_BYTES if step.get("type") == "ByteLevel" else 1, *texts])
    for value in step.values():
        members = value if isinstance(value, list) else [value]
        for member in members:
            growth *= _growth(member)
    return growth


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
