"""What a calibration has reached, in a folder beside the output: it can be interrupted anywhere and go on.

    fingerprint.json        what it was made from; with any other the folder is emptied
    texts.json              token ids of the calibration texts
    layer.{i}.npz           the four quantized matrices of a finished layer; behind the last the lm_head, if calibrated
    hidden.{i}.f32          hidden states that enter layer i: (tokens, hidden_size) float32, all texts one after another
    *.scratch               what is passed on within a layer, where it is more than a part of memory holds

One process at a time uses the folder: it holds a lock on it. A file gets its name when it is whole. Rows in files are
read and written through the page cache, which keeps them in memory while there is room, and never through a map, whose
touched pages would count as this process's memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.writer import disk_error
from ..errors import UsageError
from ..layout import Matrix
from ..quantize.packing import PackedLinear

_FINGERPRINT = "fingerprint.json"
# Memory for the rows passed on within a layer, of the 4 GiB in which an 8B model can be calibrated.
MEMORY_BYTES = 256 << 20


class Rows:
    """A file of float32 rows.

    Args:
        path: It is made when missing.
        width: Numbers in a row.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path, self._row_bytes, self._width = path, 4 * width, width
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise disk_error(error, path, None) from None

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start..stop, (stop - start, width)."""
        rows = np.empty((stop - start, self._width), np.float32)
        left, offset = rows.data.cast("B"), start * self._row_bytes
        while left:
            count = os.preadv(self._file, [left], offset)
            if count == 0:
                raise AssertionError(f"{self.path} ends before row {stop}")
            left, offset = left[count:], offset + count
        return rows

    def write(self, start: int, rows: NDArray[np.float32]) -> None:
        """Put rows at ``start``.

        Raises:
            DiskFullError: The disk has no room.
        """
        left, offset = np.ascontiguousarray(rows).data.cast("B"), start * self._row_bytes
        while left:
            try:
                count = os.pwrite(self._file, left, offset)
            except OSError as error:
                raise disk_error(error, self.path, len(left)) from None
            left, offset = left[count:], offset + count

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class HeldRows:
    """The same in memory.

    Args:
        rows: (count, width).
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start..stop, not to be written to."""
        return self._rows[start:stop]

    def write(self, start: int, rows: NDArray[np.float32]) -> None:
        """Put rows at ``start``."""
        self._rows[start : start + len(rows)] = rows


AnyRows = Rows | HeldRows


class CalibrationState:
    """The folder drawn above.

    Args:
        folder: Where; what is there is kept if it was made from the same, and removed otherwise.
        fingerprint: What the calibration is made from, as JSON has it.

    Raises:
        UsageError: Another process calibrates there.
        DiskFullError: The disk has no room.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any]) -> None:
        self._folder = folder
        self._held: dict[str, NDArray[np.float32]] = {}
        text = json.dumps(fingerprint, sort_keys=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
            if _read(folder / _FINGERPRINT) == text:
                return
            _empty(folder)
            (folder / _FINGERPRINT).write_text(text, encoding="utf-8")
        except OSError as error:
            raise disk_error(error, folder, None) from None

    @property
    def draft(self) -> Path:
        """An empty folder for a draft of the model."""
        folder = self._folder / "draft"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def texts(self, make: Callable[[], list[list[int]]]) -> list[list[int]]:
        """The calibration texts, made once."""
        path = self._folder / "texts.json"
        if not path.is_file():
            partial = self._folder / "texts.scratch"
            try:
                partial.write_text(json.dumps(make()), encoding="utf-8")
            except OSError as error:
                raise disk_error(error, partial, None) from None
            partial.rename(path)
        shutil.rmtree(self._folder / "draft", ignore_errors=True)
        texts: list[list[int]] = json.loads(path.read_text(encoding="utf-8"))
        return texts

    def is_finished(self, layer: int) -> bool:
        """Whether a layer's matrices are there."""
        return (self._folder / f"layer.{layer}.npz").is_file()

    def finished_layers(self, total: int) -> int:
        """How many layers need not be done again; an lm_head counts as one more."""
        done = 0
        while self.is_finished(done):
            done += 1
        if done < total and done > 0 and not self._hidden(done).is_file():
            done -= 1
        return done

    @contextmanager
    def open(self, layer: int, width: int) -> Iterator[Rows]:
        """The hidden states that enter a layer."""
        yield from _closing(self._hidden(layer), width)

    @contextmanager
    def create(self, layer: int, width: int) -> Iterator[Rows]:
        """The hidden states that will enter a layer; those of the layer before are dropped when they are complete."""
        partial = self._folder / "hidden.scratch"
        yield from _closing(partial, width)
        partial.rename(self._hidden(layer))
        self._hidden(layer - 1).unlink(missing_ok=True)

    @contextmanager
    def scratch(self, name: str, count: int, width: int) -> Iterator[AnyRows]:
        """Rows that are needed within a layer, as they were left if they have been opened before."""
        held, bytes_needed = self._held.get(name), 4 * count * width
        if held is None and sum(h.nbytes for h in self._held.values()) + bytes_needed <= MEMORY_BYTES:
            held = self._held[name] = np.empty((count, width), np.float32)
        if held is not None and held.shape == (count, width):
            yield HeldRows(held)
        else:
            yield from _closing(self._folder / f"{name}.scratch", width)

    def write_layer(self, index: int, packed: Sequence[PackedLinear]) -> None:
        """Keep a finished layer.

        Raises:
            DiskFullError: The disk has no room.
        """
        arrays: dict[str, Any] = {
            f"{i}.{name}": array
            for i, p in enumerate(packed)
            for name, array in (("codes", p.codes), ("scales", p.scales), ("zero_points", p.zero_points))
            if array is not None
        }
        partial = self._folder / "layer.scratch"
        try:
            with partial.open("wb") as file:
                np.savez(file, **arrays)
        except OSError as error:
            raise disk_error(error, partial, None) from None
        partial.rename(self._folder / f"layer.{index}.npz")

    def read_layer(self, index: int, matrices: Sequence[Matrix]) -> list[PackedLinear]:
        """A finished layer's matrices."""
        packed = []
        with np.load(self._folder / f"layer.{index}.npz") as file:
            for i, matrix in enumerate(matrices):
                if matrix.scheme is None:
                    raise AssertionError(f"{matrix.name} is not quantized")
                codes, scales = file[f"{i}.codes"], file[f"{i}.scales"]
                zero_points = None if matrix.scheme.symmetric else file[f"{i}.zero_points"]
                size = matrix.out_features, matrix.in_features
                packed.append(PackedLinear(matrix.scheme, *size, codes, scales, zero_points))
        return packed

    def remove(self) -> None:
        """Remove everything, from memory too."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let another process use the folder, and forget what was in memory."""
        self._held.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _hidden(self, layer: int) -> Path:
        return self._folder / f"hidden.{layer}.f32"


def _locked(folder: Path) -> int | None:
    """A descriptor whose lock lasts until it is closed, or until the process ends, however it does."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(
            f"another build is calibrating in {folder}", hint="wait for it, or give this one another --out"
        ) from None
    except OSError:  # a file system without locks
        os.close(lock)
        return None
    return lock


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _closing(path: Path, width: int) -> Iterator[Rows]:
    rows = Rows(path, width)
    try:
        yield rows
    finally:
        rows.close()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
