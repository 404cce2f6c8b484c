"""The native tokenizer through ctypes (``edgekit_text.h``). edgekit's own runtime does not use it yet; tests do."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import EngineError
from . import OK, last_error, library

PLAIN, BOS, NO_BOS = 1, 2, 4


class NativeText:
    """The text tables of an artifact.

    Args:
        folder: Holds ``edgekit_text.bin``.

    Raises:
        EngineError: The file is missing, damaged or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self._handle = ctypes.c_void_p()
        _check(library().ek_text_open(str(folder).encode(), self._handle))

    def close(self) -> None:
        """Free the handle. Closing twice is allowed."""
        library().ek_text_close(self._handle)
        self._handle = ctypes.c_void_p()

    def encode(self, text: str | bytes, flags: int = 0) -> list[int]:
        """The ids of a text.

        Args:
            text: A text, or bytes that need not be valid UTF-8.
            flags: A sum of :data:`PLAIN`, :data:`BOS` and :data:`NO_BOS`.

        Raises:
            EngineError: The flags are not valid, or a control token cannot be written as text.
        """
        data = text.encode("utf-8") if isinstance(text, str) else text
        ids = np.empty(3 * len(data) + 1, np.int32)
        count = ctypes.c_int64()
        encode = library().ek_text_encode
        _check(encode(self._handle, data, len(data), flags, ids.ctypes.data, ids.size, count))
        found: list[int] = ids[: count.value].tolist()
        return found

    def decode(self, ids: Sequence[int]) -> bytes:
        """The text of ids, as UTF-8."""
        given, size = np.array(ids, np.int32), ctypes.c_int64()
        decode = library().ek_text_decode
        _check(decode(self._handle, given.ctypes.data, given.size, None, 0, size))
        text = ctypes.create_string_buffer(size.value + 1)
        _check(decode(self._handle, given.ctypes.data, given.size, text, len(text), size))
        return text.raw[: size.value]

    def words(self, text: str | bytes) -> list[str]:
        """The words of a text after normalization, without looking for added tokens."""
        data = text.encode("utf-8") if isinstance(text, str) else text
        most = 3 * len(data) + 1
        normal, ends = ctypes.create_string_buffer(most), np.empty(most, np.int64)
        size, count = ctypes.c_int64(), ctypes.c_int64()
        words = library().ek_text_words
        _check(words(self._handle, data, len(data), normal, most, size, ends.ctypes.data, most, count))
        places = [0, *ends[: count.value].tolist()]
        return [normal.raw[a:b].decode("utf-8") for a, b in pairwise(places)]


def _check(status: int) -> None:
    if status != OK:
        raise EngineError(last_error())
