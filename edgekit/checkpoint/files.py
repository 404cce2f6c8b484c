"""Positioned reads from weight files.

Weights are read with ``os.preadv`` into ordinary memory, not through a memory map: pages of a mapped file count as
resident memory of the process, and a build promises to stay below 1 GiB. Positioned reads share no file pointer, so
threads need no lock.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CheckpointError, TruncatedFileError


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
