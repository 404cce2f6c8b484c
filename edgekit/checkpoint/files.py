"""Positioned reads from weight files and bounded reads of JSON files.

Weights are read with ``os.preadv`` into ordinary memory, not through a memory map: pages of a mapped file count as
resident memory of the process, and a build promises to stay below 1 GiB. Positioned reads share no file pointer, so
threads need no lock.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, CorruptFileError, TruncatedFileError

MAX_JSON_BYTES = 64 * 1024 * 1024  # twice the largest tokenizer.json in use: Gemma 3's, 262144 tokens, 33 MB


class WeightFile:
    """A file open for positioned reads.

    Args:
        path: An existing file.

    Raises:
        CheckpointError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        try:
            if not path.is_file():
                raise CheckpointError(f"{path} is not a file")
            self._fd = os.open(path, os.O_RDONLY)
            self.size = os.fstat(self._fd).st_size
        except OSError as error:
            raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from None

    def read(self, offset: int, size: int, what: str) -> bytearray:
        """Read ``size`` bytes at ``offset``; see :meth:`read_into`."""
        buffer = bytearray(size)
        self.read_into(memoryview(buffer), offset, what)
        return buffer

    def read_into(self, buffer: memoryview, offset: int, what: str) -> None:
        """Fill ``buffer`` with the file's bytes from ``offset`` on.

        Args:
            buffer: Writable, one byte per item.
            offset: Byte position in the file.
            what: What is being read, for error messages: ``tensor 'x'``.

        Raises:
            TruncatedFileError: The file ends before the buffer is full.
            CheckpointError: The read failed.
            ValueError: The file is closed.
        """
        if self._fd < 0:
            raise ValueError(f"{self.path} is closed")
        done, size = 0, len(buffer)
        while done < size:
            try:
                count = os.preadv(self._fd, [buffer[done:]], offset + done)
            except OSError as error:
                raise CheckpointError(
                    f"{self.path}: reading {what} at byte {offset + done} failed: {error.strerror}"
                ) from None
            if count == 0:
                raise truncated(self.path, what, offset + size, offset + done)
            done += count

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def truncated(path: Path, what: str, needed: int, size: int) -> TruncatedFileError:
    """The error for a file that ends too early.

    Args:
        path: The file.
        what: What is cut off: ``tensor 'x' at byte 4096``.
        needed: The smallest length that the file must have.
        size: The length it has.
    """
    return TruncatedFileError(
        f"{path} is truncated: {what} needs a file of at least {needed} bytes; it has {size}",
        hint="the download or copy was interrupted; fetch the file again",
    )


def read_bounded(path: Path, limit: int = MAX_JSON_BYTES) -> bytes:
    """Read a whole file of limited size.

    Raises:
        CorruptFileError: The file is larger than ``limit`` bytes.
        CheckpointError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(min(size, limit) + 1)  # read() allocates the size it is given
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise CorruptFileError(f"{path} is larger than the limit of {limit} bytes for this kind of file")
    return content


def parse_json_object(content: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        content: UTF-8.
        what: The content's name, for error messages.

    Raises:
        CorruptFileError: The content is not JSON or not an object, or has a duplicate key.
    """
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{what} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CorruptFileError(f"{what} is not a JSON object but a {type(value).__name__}")
    return value


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; see :func:`read_bounded` and :func:`parse_json_object`."""
    return parse_json_object(read_bounded(path), str(path))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        (duplicate, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"duplicate key {duplicate!r}")
    return unique
