"""Temporary folders that do not outlive their process, and the removal of what killed processes left behind.

    .NAME.partial-1f0c6a2e9b7d4c35      an artifact that is being written (``artifact/writer.py``)
    .NAME.replaced-1f0c6a2e9b7d4c35     the artifact it replaces, for a moment
    .fetch-..., edgekit-probe-...       downloads and reference models

The first eight digits name the running system, the others are random: process ids repeat in containers. A process holds
a lock on its folder (flock on the folder itself, which follows it when it is renamed); the system drops the lock when
the process ends in any way. So a folder of this system without a lock is abandoned. A folder of another system, where
locks may not be visible, or of an older edgekit, which did not lock, is abandoned when it has not changed for a day.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# The ends with digits alone or with eight characters are those of an older edgekit: process ids, and Python's tempfile.
_FOLDER = re.compile(
    r"\.(?P<name>.+)\.(?P<kind>partial|replaced)-(?P<end>[0-9a-f]{16}|\d+)"
    r"|(\.fetch|edgekit-probe)-(?P<other_end>[0-9a-f]{16}|[0-9a-z_]{8})"
)
_UNCHANGED_S = 24 * 3600
_RENAMED_S = 60  # a folder that is being replaced is without its name for less than a millisecond
_TRIES = 100  # to make a folder; another process can take one away before it is locked
_BUSY, _NO_LOCKS = -1, -2  # instead of a lock
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2  # of linux/fcntl.h, linux/fs.h and Darwin's sys/stdio.h


@contextmanager
def locked_folder(parent: Path, stem: str) -> Iterator[Path]:
    """A new folder that is deleted when the block ends, if it still has its name.

    Args:
        parent: The folder in which it is made.
        stem: The start of its name, one that :func:`sweep` knows: ``.NAME.partial-``, ``.fetch-``, ``edgekit-probe-``.
            What other processes left in ``parent`` is swept.

    Raises:
        OSError: The folder cannot be made.
    """
    sweep(parent)
    folder, lock = _make(parent, stem)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def new_name(stem: str) -> str:
    """A name that no other process uses: the stem, this system, a random number."""
    return f"{stem}{_this_system()}{secrets.token_hex(4)}"


def exchange(first: Path, second: Path) -> bool:
    """Let two folders of one file system exchange their names in one step; False if the system cannot."""
    if sys.platform == "win32":
        return False
    libc, ends = ctypes.CDLL(None), (os.fsencode(first), os.fsencode(second))
    if hasattr(libc, "renameat2"):  # glibc from 2.28 on
        return bool(libc.renameat2(_AT_FDCWD, ends[0], _AT_FDCWD, ends[1], _RENAME_EXCHANGE) == 0)
    return hasattr(libc, "renamex_np") and bool(libc.renamex_np(*ends, _RENAME_SWAP) == 0)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep :func:`sweep` of other processes from a folder, also when it is renamed in the block."""
    lock = _lock(folder)
    try:
        yield
    finally:
        _unlock(lock)


def sweep(parent: Path) -> list[Path]:
    """Remove the abandoned temporary folders in a folder. An artifact that lost its name gets it back.

    Only folders of this user with a name of edgekit's pattern are touched. What cannot be removed stays.

    Args:
        parent: The folder to look into.

    Returns:
        The artifacts that have their names again: a build with ``--force`` was killed while it replaced them.
    """
    try:
        with os.scandir(parent) as entries:
            found = [(Path(entry.path), match) for entry in entries if (match := _FOLDER.fullmatch(entry.name))]
    except OSError:
        return []
    restored = []
    for folder, match in sorted(found, key=lambda pair: pair[1]["kind"] != "replaced"):  # these first
        home = parent / match["name"] if match["kind"] == "replaced" else None
        if home is not None and os.path.lexists(home):
            home = None  # the build did replace it
        lock = _take(folder, match["end"] or match["other_end"], lost=home is not None)
        if lock is None:
            continue
        if home is not None:
            with suppress(OSError):
                folder.rename(home)
                restored.append(home)
        elif match["kind"] is None or _is_flat(folder):
            shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)
    return restored


def find_replaced(artifact: Path) -> Path | None:
    """Where an artifact is that lost its name to a build that was killed; None if there is none."""
    with suppress(OSError), os.scandir(artifact.parent) as entries:
        for entry in entries:
            match = _FOLDER.fullmatch(entry.name)
            if match and match["name"] == artifact.name and match["kind"] == "replaced":
                return Path(entry.path)
    return None


def _make(parent: Path, stem: str) -> tuple[Path, int]:
    """Make a folder and lock it."""
    for _ in range(_TRIES):
        folder = parent / new_name(stem)
        folder.mkdir()
        lock = _lock(folder)
        if lock != _BUSY and folder.is_dir():
            return folder, lock
        _unlock(lock)  # swept before it was locked
    raise OSError(f"other processes remove every new folder in {parent}")


def _take(folder: Path, end: str, *, lost: bool) -> int | None:
    """Lock a folder that no process uses, so that only one process removes it.

    Args:
        folder: The folder.
        end: The end of its name.
        lost: Whether it is an artifact without its name.

    Returns:
        The lock, or _NO_LOCKS; None if the folder is, or may be, in use.
    """
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "geteuid") and found.st_uid != os.geteuid()):
            return None
        lock = _lock(folder)
        if lock == _BUSY:
            return None
        changed = found.st_ctime + _RENAMED_S if lost else _newest(folder) + _UNCHANGED_S
        if (lock >= 0 and len(end) == 16 and end.startswith(_this_system())) or changed < time.time():
            return lock
    except OSError:
        return None
    _unlock(lock)
    return None


def _unlock(lock: int) -> None:
    if lock >= 0:
        os.close(lock)


def _is_flat(folder: Path) -> bool:
    """Whether a folder holds files alone, as what edgekit writes does."""
    return not any(path.is_dir() and not path.is_symlink() for path in folder.iterdir())


def _lock(folder: Path) -> int:
    """Lock a folder until the returned descriptor is closed or the process ends.

    Returns:
        The descriptor, or _BUSY if another process has the lock or the folder, or _NO_LOCKS.
    """
    if sys.platform == "win32":
        return _NO_LOCKS
    import fcntl

    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return _BUSY
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.lstat(folder)):  # it still has its name
            return lock
        busy = True
    except BlockingIOError:
        busy = True
    except OSError:  # a file system without locks, or the folder is gone
        busy = not folder.is_dir()
    os.close(lock)
    return _BUSY if busy else _NO_LOCKS


def _newest(folder: Path) -> float:
    """When a folder or anything in it was last changed."""
    times = [folder.lstat().st_mtime]
    for root, _, files in os.walk(folder):
        times += [os.lstat(os.path.join(root, name)).st_mtime for name in [*files, "."]]
    return max(times)


@cache
def _this_system() -> str:
    """Eight hexadecimal digits that are the same in all containers of a running kernel, and change when it restarts."""
    try:
        system = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        system = platform.node()
    return hashlib.sha256(system.encode()).hexdigest()[:8]
