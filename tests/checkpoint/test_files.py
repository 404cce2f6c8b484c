"""Positioned reads, bounded reads and strict JSON."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.checkpoint.files import WeightFile, truncated
from edgekit.errors import CheckpointError, TruncatedFileError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(100)))
    return path


def test_reads_return_the_bytes_at_an_offset(path: Path) -> None:
    file = WeightFile(path)
    assert file.size == 100
    assert file.read(10, 5, "x") == bytes([10, 11, 12, 13, 14])
    assert file.read(100, 0, "x") == b""
    buffer = bytearray(3)
    file.read_into(memoryview(buffer), 97, "x")
    assert buffer == bytes([97, 98, 99])
    file.close()


def test_a_read_that_the_system_splits_is_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: whole(fd, [buffers[0][:7]], offset))
    file = WeightFile(path)
    assert file.read(3, 50, "x") == bytes(range(3, 53))
    file.close()


def test_a_read_past_the_end_names_the_tensor_and_both_sizes(path: Path) -> None:
    file = WeightFile(path)
    with pytest.raises(TruncatedFileError) as caught:
        file.read(90, 20, "tensor 'x'")
    message = f"{path} is truncated: tensor 'x' needs a file of at least 110 bytes; it has 100"
    assert caught.value.message == message
    assert "fetch the file again" in caught.value.hint
    file.close()


def test_a_read_that_fails_names_the_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    file = WeightFile(path)
    with pytest.raises(CheckpointError, match="reading tensor 'x' at byte 8 failed: Input/output error"):
        file.read(8, 4, "tensor 'x'")
    file.close()


def test_a_closed_file_cannot_be_read(path: Path) -> None:
    file = WeightFile(path)
    file.close()
    file.close()
    with pytest.raises(ValueError, match="weights is closed"):
        file.read(0, 1, "x")


def test_a_path_that_is_not_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=f"{path} is not a file"):
            WeightFile(path)


def test_the_error_for_a_truncated_file() -> None:
    error = truncated(Path("x"), "its header", 8, 3)
    assert isinstance(error, TruncatedFileError)
    assert error.message == "x is truncated: its header needs a file of at least 8 bytes; it has 3"
