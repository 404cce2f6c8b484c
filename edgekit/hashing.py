"""SHA-256 of files, read in chunks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

_CHUNK_BYTES = 4 * 1024 * 1024


def sha256_file(path: Path, advance: Callable[[int], None] = lambda count: None) -> str:
    """Compute the SHA-256 of a file.

    Args:
        path: The file.
        advance: Called after each chunk with the chunk's size in bytes.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    digest, buffer = hashlib.sha256(), bytearray(_CHUNK_BYTES)
    # O_NONBLOCK: opening a pipe without a writer would wait.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            advance(count)
    return digest.hexdigest()
