"""The progress of a calibration, stored in a folder next to the output, so that it can resume after any interruption.

    fingerprint.json        identifies the inputs of the calibration; if they differ, the folder is emptied
    digests.json            sha256 of each of the next three kinds of files
    texts.json              token ids of the calibration texts
    layer.{i}.npz           the four quantized matrices of a finished layer; one more file for a calibrated lm_head
    hidden.{i}.f32          hidden states that enter layer i: (tokens, hidden_size) float32, all texts concatenated
    *.scratch               tensors passed on within a layer that do not fit into MEMORY_BYTES, and incomplete files

A process locks the folder while it uses it. A file gets its final name when it is complete and on the disk, after its
digest. What has another digest than the one that was written, after a power failure or an edit, is discarded with a
warning, and computed again. Rows in files are read and
written with preadv and pwrite, so that the page cache keeps them in memory while there is room. They are not mapped,
because touched pages of a map count as this process's memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.writer import disk_error
from ..durable import rename, sync, write_file
from ..errors import DiscardedStateWarning, UsageError
from ..hashing import sha256_file
from ..json_text import json_text
from ..layout import Matrix
from ..quantize.packing import PackedLinear

_FINGERPRINT, _DIGESTS = "fingerprint.json", "digests.json"
_LEFT = re.compile(r"\.(?P<name>.+)\.(?P<kind>calibration|widths)")  # Job.resume_path in build/steps.py
_KEPT = re.compile(r"texts\.json|layer\.\d+\.npz|hidden\.\d+\.f32", re.ASCII)  # files that have a digest
_UNCHANGED_S = 7 * 24 * 3600
# Limit for the rows that are passed on within a layer in memory. An 8B model can be calibrated in 4 GiB altogether.
MEMORY_BYTES = 256 << 20


class Rows:
    """Rows of float32 numbers in a file.

    Args:
        path: The file; it is created if it does not exist.
        width: Numbers in a row.

    Raises:
        DiskFullError: The file cannot be created because the disk is full.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path, self._row_bytes, self._width = path, 4 * width, width
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise disk_error(error, path, None) from None

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read rows ``start`` to ``stop``, (stop - start, width)."""
        rows = np.empty((stop - start, self._width), np.float32)
        left, offset = rows.data.cast("B"), start * self._row_bytes
        while left:
            count = os.preadv(self._file, [left], offset)
            if count == 0:
                raise AssertionError(f"{self.path} ends before row {stop}")
            left, offset = left[count:], offset + count
        return rows

    def write(self, start: int, rows: NDArray[np.float32]) -> None:
        """Write rows from row ``start`` on.

        Raises:
            DiskFullError: There is not enough disk space.
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
    """Rows of float32 numbers in memory, with the methods of :class:`Rows`.

    Args:
        rows: (count, width).
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows ``start`` to ``stop``, (stop - start, width), as a view that must not be modified."""
        return self._rows[start:stop]

    def write(self, start: int, rows: NDArray[np.float32]) -> None:
        """Write rows from row ``start`` on."""
        self._rows[start : start + len(rows)] = rows


AnyRows = Rows | HeldRows


class CalibrationState:
    """The state folder of one calibration.

    Args:
        folder: The folder. Its files are kept if they have the same fingerprint, and deleted otherwise.
        fingerprint: Identifies the inputs of the calibration; JSON values.

    Raises:
        UsageError: Another process calibrates in the folder.
        DiskFullError: There is not enough disk space.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any]) -> None:
        self._folder = folder
        self._held: dict[str, NDArray[np.float32]] = {}
        self._digests: dict[str, str] = {}  # of the files that may be used, by their names
        self._checked: set[str] = set()  # those that were read since, or written by this process
        text = json.dumps(fingerprint, sort_keys=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
            if _read(folder / _FINGERPRINT) == text:
                self._digests = _read_digests(folder / _DIGESTS)
                return
            if (folder / _FINGERPRINT).exists():
                _warn(f"{folder} is of another calibration or damaged; the calibration starts anew")
            _empty(folder)
            write_file(folder / _FINGERPRINT, text.encode())
        except OSError as error:
            raise disk_error(error, folder, None) from None

    @property
    def draft(self) -> Path:
        """A new, empty folder for a draft of the model."""
        folder = self._folder / "draft"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def texts(self, make: Callable[[], list[list[int]]]) -> list[list[int]]:
        """The calibration texts: those that are stored, or those that ``make`` returns, which are then stored."""
        path = self._folder / "texts.json"
        texts: list[list[int]]
        if self._is_whole(path):
            texts = json.loads(path.read_text(encoding="utf-8"))
        else:
            texts = make()
            partial = self._folder / "texts.scratch"
            with _telling(partial):
                partial.write_text(json.dumps(texts), encoding="utf-8")
            self._keep(partial, path)
        shutil.rmtree(self._folder / "draft", ignore_errors=True)
        return texts

    def is_finished(self, layer: int) -> bool:
        """Whether a layer's matrices are stored and undamaged."""
        return self._is_whole(self._folder / f"layer.{layer}.npz")

    def finished_layers(self, total: int, hidden_bytes: int | None = None) -> int:
        """The number of layers, out of ``total``, that a resumed calibration can skip. An lm_head counts as a layer.

        A layer is repeated if the hidden states after it are missing, or have another size than ``hidden_bytes``.
        """
        done = 0
        while self.is_finished(done):
            done += 1
        while 0 < done < total and not self._has_hidden(done, hidden_bytes):
            done -= 1
        return done

    @contextmanager
    def open(self, layer: int, width: int) -> Iterator[Rows]:
        """Open the hidden states that enter a layer."""
        yield from _closing(self._hidden(layer), width)

    @contextmanager
    def create(self, layer: int, width: int) -> Iterator[Rows]:
        """Create the hidden states that enter a layer. On success, those that enter the layer before it are deleted."""
        partial = self._folder / "hidden.scratch"
        with closing(Rows(partial, width)) as rows:
            yield rows
        self._keep(partial, self._hidden(layer))
        self._hidden(layer - 1).unlink(missing_ok=True)

    @contextmanager
    def scratch(self, name: str, count: int, width: int) -> Iterator[AnyRows]:
        """Open rows that are passed on within a layer; they keep their values from one call to the next."""
        held, bytes_needed = self._held.get(name), 4 * count * width
        if held is None and sum(h.nbytes for h in self._held.values()) + bytes_needed <= MEMORY_BYTES:
            held = self._held[name] = np.empty((count, width), np.float32)
        if held is not None and held.shape == (count, width):
            yield HeldRows(held)
        else:
            yield from _closing(self._folder / f"{name}.scratch", width)

    def write_layer(self, index: int, packed: Sequence[PackedLinear]) -> None:
        """Store the matrices of a finished layer.

        Raises:
            DiskFullError: There is not enough disk space.
        """
        arrays: dict[str, Any] = {
            f"{i}.{name}": array
            for i, p in enumerate(packed)
            for name, array in (("codes", p.codes), ("scales", p.scales), ("zero_points", p.zero_points))
            if array is not None
        }
        partial = self._folder / "layer.scratch"
        with _telling(partial), partial.open("wb") as file:
            np.savez(file, **arrays)
        self._keep(partial, self._folder / f"layer.{index}.npz")

    def read_layer(self, index: int, matrices: Sequence[Matrix]) -> list[PackedLinear]:
        """Read the matrices of a finished layer."""
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
        """Delete the folder, and free the memory."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Unlock the folder, and free the memory."""
        self._held.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _has_hidden(self, layer: int, hidden_bytes: int | None) -> bool:
        path = self._hidden(layer)
        return self._is_whole(path) and hidden_bytes in (None, path.stat().st_size)

    def _keep(self, partial: Path, path: Path) -> None:
        """Give a complete file its final name, after its digest is stored.

        Raises:
            DiskFullError: There is not enough disk space.
        """
        with _telling(partial):
            with partial.open("rb+") as file:
                sync(file.fileno())
            kept = {name: digest for name, digest in self._digests.items() if (self._folder / name).exists()}
            self._digests = {**kept, path.name: sha256_file(partial)}
            write_file(self._folder / _DIGESTS, json_text(self._digests).encode())
            rename(partial, path)
        self._checked.add(path.name)

    def _is_whole(self, path: Path) -> bool:
        """Whether a file is there and has its digest. One that has not is removed, with a warning."""
        if not path.exists() or path.name in self._checked:
            return path.exists()
        with suppress(OSError):
            if sha256_file(path) == self._digests.get(path.name):
                self._checked.add(path.name)
                return True
        _warn(f"{path} is damaged: it is not what was written; what it held is computed again")
        _remove(path)
        return False

    def _hidden(self, layer: int) -> Path:
        return self._folder / f"hidden.{layer}.f32"


def sweep_states(parent: Path, finished: str) -> None:
    """Remove what calibrations and measurements of widths left in a folder and no build will use.

    These are the state of a finished artifact, a state that has not changed for a week, and in every state the draft
    and the incomplete files. A state that a process uses is left alone.

    Args:
        parent: The folder to look into.
        finished: The name of an artifact that was just built; empty if there is none.
    """
    with suppress(OSError):
        for path in list(parent.iterdir()):
            match = _LEFT.fullmatch(path.name)
            if match is None or path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            old = match["name"] == finished or _changed(path) < time.time() - _UNCHANGED_S
            if match["kind"] == "widths":
                if old and path.is_file():
                    path.unlink()
            elif (path / _FINGERPRINT).is_file():
                _sweep_state(path, old)


def _sweep_state(folder: Path, whole: bool) -> None:
    try:
        lock = _locked(folder)
    except UsageError:
        return
    if lock is None:  # it may be in use
        return
    if whole:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        shutil.rmtree(folder / "draft", ignore_errors=True)
        for path in folder.glob("*.scratch"):
            path.unlink(missing_ok=True)
    os.close(lock)


def _changed(path: Path) -> float:
    """When a file, or a folder or anything in it, was last changed."""
    inside = list(path.iterdir()) if path.is_dir() else []
    return max(each.lstat().st_mtime for each in [path, *inside])


def _locked(folder: Path) -> int | None:
    """Lock the folder until the returned descriptor is closed or the process ends; None if locks are not supported."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(
            f"another build is calibrating in {folder}", hint="wait for it to finish, or use another --out"
        ) from None
    except OSError:  # the file system does not support locks
        os.close(lock)
        return None
    return lock


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Translate errors of the system while a file is written."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path, None) from None


def _warn(text: str) -> None:
    warnings.warn(text, DiscardedStateWarning, stacklevel=2)


def _read_digests(path: Path) -> dict[str, str]:
    """The stored digests; none if the file is damaged: then no file has its digest."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {name: digest for name, digest in found.items() if _KEPT.fullmatch(name)}
    return {}


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
