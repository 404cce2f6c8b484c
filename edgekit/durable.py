"""Has files on the disk before their names are: a power failure leaves the old content or the new, never a part.

    write, sync the file -> rename -> sync the folder that has the name

A file system may put a new name on the disk before the content of the file. So a file or folder is synced before it
gets its final name, and the folder with the name afterwards. On macOS, fsync leaves the data in the drive's cache;
F_FULLFSYNC waits for the drive.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path

from .leftovers import locked_file
from .units import format_bytes

# What systems answer that cannot sync a folder or this kind of file.
_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF)


def sync(file: int) -> None:
    """Wait until a file's content is on the disk.

    Args:
        file: An open descriptor.

    Raises:
        OSError: It could not be written: the disk is full or broken.
    """
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):  # not every file system has it
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
            return
    os.fsync(file)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Windows cannot, and keeps names in a journal of its own.

    Raises:
        OSError: They could not be written.
    """
    if sys.platform == "win32":
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(opened)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(opened)


def sync_tree(folder: Path) -> None:
    """Wait until everything in a folder is on the disk: the files, then the names. Links are not followed.

    Raises:
        OSError: Something could not be written.
    """
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            path = os.path.join(root, name)
            if not stat.S_ISREG(os.lstat(path).st_mode):
                continue
            # Windows syncs files that are open for writing only.
            opened = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY | os.O_NOFOLLOW)
            try:
                sync(opened)
            finally:
                os.close(opened)
        sync_folder(Path(root))


def rename(source: Path, target: Path) -> None:
    """Give a synced file its final name, which it keeps after a power failure. A file of that name is replaced.

    Raises:
        OSError: It cannot be renamed, or the name could not be written.
    """
    source.replace(target)
    sync_folder(target.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file. Whatever happens, there is the old content or the new one under its name.

    Args:
        path: The file, which may exist. A device or a pipe is refused; ``output_file.py`` writes to some of them.
        content: Its new content.

    Raises:
        OSError: It cannot be written; nothing is left behind then.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    with locked_file(path.parent, f".{path.name}.partial-") as (partial, file):
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        sync(file)
        rename(partial, path)


def free_space(path: Path) -> str:
    """How much space there is for a path that may not exist, as a phrase; empty if that is not known."""
    for folder in (path, *path.absolute().parents):
        with suppress(OSError):
            return f"{format_bytes(shutil.disk_usage(folder).free)} are free there"
    return ""
