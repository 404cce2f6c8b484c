"""SHA-256 of files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edgekit.hashing import sha256_file


@pytest.mark.parametrize("size", [0, 1, 4 * 1024 * 1024, 9_000_000])  # below, at and above a chunk
def test_the_hash_is_hashlibs_and_every_byte_is_counted(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    counts: list[int] = []
    assert sha256_file(tmp_path / "file", counts.append) == hashlib.sha256(content).hexdigest()
    assert sum(counts) == size
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_file(tmp_path / "nowhere")


def test_a_pipe_without_a_writer_is_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert sha256_file(tmp_path / "pipe") == hashlib.sha256(b"").hexdigest()
