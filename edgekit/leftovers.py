"""Temporary folders that do not outlive their process, and the removal of what killed processes left behind.

    .NAME.partial-1f0c6a2e9b7d4c35      an artifact, a bundle or a file that is being written
    .NAME.replaced-1f0c6a2e9b7d4c35     the artifact it replaces, for a moment
    .NAME-web.ready-1f0c6a2e9b7d4c35    what a build also writes; it gets its name right after the artifact NAME
    .fetch-...                          downloads
    edgekit-probe-... and the like      temporary folders of one command: reference models, a compiler's output

The first eight of the sixteen digits name the running system, the others are random: process ids repeat in containers.
A process holds a lock on its folder (flock on the folder itself, which follows it when it is renamed); the system drops
the lock when the process ends in any way. So a folder of this system without a lock is abandoned, and on a disk of this
machine also one of an earlier run of the system. A folder of another system, where locks may not be visible, or of an
older edgekit, which did not lock, is abandoned when it has not changed for a day.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# The ends with digits alone, process ids, are those of an older edgekit.
_FOLDER = re.compile(
    r"\.(?P<name>.+)\.(?P<kind>partial|replaced|ready)-(?P<end>[0-9a-f]{16}|\d+)"
    r"|(\.fetch|edgekit-(probe|compile|inspect|header|ssh))-(?P<other_end>[0-9a-f]{16})"
)
_END = re.compile(r"[0-9a-f]{16}")  # of this edgekit's names
_UNCHANGED_S = 24 * 3600
_RENAMED_S = 60  # a folder that is being replaced is without its name for less than a millisecond
_TRIES = 100  # to make a folder; another process can take one away before it is locked
_BUSY, _NO_LOCKS = -1, -2  # instead of a lock
# File systems that no other machine writes to, so a lock that nobody holds here is held by nobody.
_LOCAL = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "tmpfs", "xfs", "zfs"})
# What this process has made and not yet removed: :func:`remove_all`.
_own: set[Path] = set()
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
    folder, lock = _make(parent, stem, Path.mkdir)
    try:
        yield folder
    finally:
        for each in (folder, ready_name(folder)):
            remove(each)
            _own.discard(each)
        _unlock(lock)


def make_ready(folder: Path) -> Path:
    """Rename a finished folder of :func:`locked_folder` so that it is not lost if only the artifact gets its name.

    Args:
        folder: The folder, ``.NAME-FORMAT.partial-...``. The artifact NAME gets its name next.

    Returns:
        The folder's name until then. If this process is killed in between, :func:`sweep` gives it the name NAME-FORMAT
        if the artifact has its name, and removes it otherwise.
    """
    ready = ready_name(folder)
    _own.add(ready)
    folder.rename(ready)
    return ready


def ready_name(folder: Path) -> Path:
    """The name that :func:`make_ready` gives to a folder."""
    return _with_kind(folder, "ready")


def partial_name(folder: Path) -> Path:
    """The name of a temporary folder that is always abandoned with its process."""
    return _with_kind(folder, "partial")


def _with_kind(folder: Path, kind: str) -> Path:
    found = _FOLDER.fullmatch(folder.name)
    if found is None or found["kind"] is None:
        return folder
    return folder.with_name(f".{found['name']}.{kind}-{found['end']}")


@contextmanager
def locked_file(parent: Path, stem: str) -> Iterator[tuple[Path, int]]:
    """A new file that is deleted when the block ends, if it still has its name.

    Args:
        parent, stem: As for :func:`locked_folder`; the stem is ``.NAME.partial-``.

    Yields:
        The file, and a descriptor to write to.

    Raises:
        OSError: The file cannot be made.
    """
    sweep(parent)
    path, lock = _make(parent, stem, lambda path: path.touch(0o666, exist_ok=False))
    try:
        file = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        try:
            yield path, file
        finally:
            os.close(file)
    finally:
        with suppress(OSError):
            path.unlink()
        _own.discard(path)
        _unlock(lock)


def remove(folder: Path) -> None:
    """Remove a folder that threads or other processes may still be writing into, as far as that is allowed."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.is_dir():
            return


def remove_all() -> None:
    """Remove everything that this process has made here. It must end at once after that: it was told to twice."""
    for path in list(_own):
        if path.is_dir():
            remove(path)
        else:
            with suppress(OSError):
                path.unlink()


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
    """Remove the abandoned temporary folders and files in a folder. An artifact that lost its name gets it back.

    Only those of this user with a name of edgekit's pattern are touched. What cannot be removed stays.

    Args:
        parent: The folder to look into.

    Returns:
        The folders that have their names again, or now: a build was killed while it gave names. What a build also
        wrote replaces an earlier one of that name, as the build would have.
    """
    try:
        with os.scandir(parent) as entries:
            found = [(Path(entry.path), match) for entry in entries if (match := _FOLDER.fullmatch(entry.name))]
    except OSError:
        return []
    restored: list[Path] = []
    for folder, match in sorted(found, key=lambda pair: pair[1]["kind"] != "replaced"):  # these first
        home = parent / match["name"] if match["kind"] in ("replaced", "ready") else None
        if match["kind"] == "ready" and not (home and _comes_next(folder, home, restored)):
            home = None  # the artifact did not get its name, or this is what was replaced
        elif match["kind"] == "replaced" and home is not None and os.path.lexists(home):
            home = None  # the build did replace it
        end = match["end"] or match["other_end"]
        lock = _take(folder, end, lost=home is not None)
        if lock is None:
            continue
        if home is not None:
            with suppress(OSError):
                _give_back(folder, home)
                restored.append(home)
        elif not folder.is_dir():
            with suppress(OSError):
                folder.unlink()
        elif match["kind"] is None or _END.fullmatch(end) or _is_flat(folder):
            shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)
    return restored


def _give_back(folder: Path, home: Path) -> None:
    """Give a folder its name. What has the name is deleted, and has another one before that."""
    if not os.path.lexists(home):
        folder.rename(home)
        return
    old = partial_name(folder)
    if exchange(folder, home):
        folder.rename(old)
    else:
        home.rename(old)
        folder.rename(home)
    shutil.rmtree(old, ignore_errors=True)


def _comes_next(ready: Path, home: Path, restored: Sequence[Path]) -> bool:
    """Whether a killed build would have named a folder of :func:`make_ready` next: the artifact has its name already.

    A folder's ctime is when it got its name. Where the name is taken, what has it must be older than both.

    Args:
        ready: The folder.
        home: Its name.
        restored: Artifacts that have their names again, because the build did not replace them.
    """
    artifact = home.name.rpartition("-")[0]
    if not artifact or home.with_name(artifact) in restored:
        return False
    try:
        named, made = home.with_name(artifact).lstat(), ready.lstat()
        if not stat.S_ISDIR(named.st_mode):
            return False
        if sys.platform == "win32":  # where ctime is when a folder was made
            return not os.path.lexists(home)
        earlier = not os.path.lexists(home) or home.lstat().st_ctime_ns < made.st_ctime_ns
        return earlier and made.st_ctime_ns < named.st_ctime_ns
    except OSError:
        return False


def find_replaced(artifact: Path) -> Path | None:
    """Where an artifact is that lost its name to a build that was killed; None if there is none."""
    with suppress(OSError), os.scandir(artifact.parent) as entries:
        for entry in entries:
            match = _FOLDER.fullmatch(entry.name)
            if match and match["name"] == artifact.name and match["kind"] == "replaced":
                return Path(entry.path)
    return None


def _make(parent: Path, stem: str, make: Callable[[Path], None]) -> tuple[Path, int]:
    """Make a folder or a file and lock it."""
    for _ in range(_TRIES):
        path = parent / new_name(stem)
        _own.add(path)
        try:
            make(path)
        except BaseException:
            _own.discard(path)
            raise
        lock = _lock(path)
        if lock != _BUSY and path.exists():
            return path, lock
        _own.discard(path)
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
    lock = _NO_LOCKS
    try:
        found = folder.lstat()
        wanted = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and _END.fullmatch(end) and not lost)
        if not wanted or (hasattr(os, "geteuid") and found.st_uid != os.geteuid()):
            return None
        lock = _lock(folder)
        if lock == _BUSY:
            return None
        changed = found.st_ctime + _RENAMED_S if lost else _newest(folder) + _UNCHANGED_S
        visible = lock >= 0 and _END.fullmatch(end) and (end.startswith(_this_system()) or _is_local(found.st_dev))
        if visible or changed < time.time():
            return lock
    except OSError:
        pass  # something went away meanwhile: it is in use
    _unlock(lock)
    return None


def _unlock(lock: int) -> None:
    if lock >= 0:
        os.close(lock)


def _is_flat(folder: Path) -> bool:
    """Whether a folder holds files alone, as what edgekit writes does."""
    return not any(path.is_dir() and not path.is_symlink() for path in folder.iterdir())


def _lock(folder: Path) -> int:
    """Lock a folder or a file until the returned descriptor is closed or the process ends.

    Returns:
        The descriptor, or _BUSY if another process has the lock or the folder, or _NO_LOCKS.
    """
    if sys.platform == "win32":
        return _NO_LOCKS
    import fcntl

    try:
        lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
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
        busy = not folder.exists()
    os.close(lock)
    return _BUSY if busy else _NO_LOCKS


def _newest(folder: Path) -> float:
    """When a folder or anything in it was last changed."""
    times = [folder.lstat().st_mtime]
    for root, _, files in os.walk(folder):
        times += [os.lstat(os.path.join(root, name)).st_mtime for name in [*files, "."]]
    return max(times)


def _is_local(device: int) -> bool:
    """Whether a file system, by its st_dev, is one that only this machine writes to (Linux)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            mount, _, source = line.partition(" - ")
            if mount.split()[2:3] == [wanted]:
                return source.split()[0] in _LOCAL
    return False


@cache
def _this_system() -> str:
    """Eight hexadecimal digits that are the same in all containers of a running kernel, and change when it restarts."""
    try:
        system = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        system = platform.node()
    return hashlib.sha256(system.encode()).hexdigest()[:8]
