"""Files that a command writes under a name that the user gives: a receipt, a device profile, a picture.

A named pipe would wait for a reader that may never come, and a disk's device would lose its content, so only regular
files are written, and what has no content to lose: ``/dev/null``, terminals, and open descriptors such as
``/dev/stdout``, whatever stands behind them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from pathlib import Path

from .durable import write_file

_MANIFEST = "edgekit.json"
_DESCRIPTOR = re.compile(r"/dev/(?P<name>stdout|stderr)|/(dev|proc/self)/fd/(?P<number>\d{1,9})")
_REFUSED = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe, which may have no reader"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISBLK, "it is a disk or another block device"),
)


def output_problem(path: Path) -> str | None:
    """Why a file cannot be written, as a phrase; None if nothing speaks against it. Nothing is opened or made.

    Args:
        path: The file, which may exist.
    """
    if not path.name:
        return "it has no name"
    try:
        descriptor = _descriptor(path)
        if descriptor is not None:
            os.fstat(descriptor)
            return None
        if (problem := _problem(path)) is not None:
            return problem
        artifact = artifact_around(path)
        return None if artifact is None else f"it is inside the artifact {artifact}, to which nothing can be added"
    except OSError as error:
        return error.strerror
    except ValueError:
        return "it is not a valid path"


def artifact_around(path: Path) -> Path | None:
    """The artifact that a file or folder would be inside of; None if there is none.

    Args:
        path: The file or folder, which need not exist.
    """
    folders = Path(os.path.realpath(path)).parents
    return next((folder for folder in folders if (folder / _MANIFEST).is_file()), None)


def write_output(path: Path, content: bytes) -> None:
    """Write a file, as :func:`~edgekit.durable.write_file` does.

    Args:
        path: The file, which may exist; or an open descriptor, such as ``/dev/stdout``.
        content: Its new content.

    Raises:
        OSError: It cannot be written, or is something that is refused; ``strerror`` says why.
    """
    if (problem := output_problem(path)) is not None:
        raise OSError(errno.EINVAL, problem, str(path))
    descriptor = _descriptor(path)
    if descriptor is not None:
        sys.stdout.flush()  # what was printed before comes before
        _write(descriptor, content)
    elif path.exists() and not path.is_file():
        path.write_bytes(content)
    else:
        write_file(path, content)


def _descriptor(path: Path) -> int | None:
    """The number of an open descriptor that this path stands for; None for another path."""
    found = _DESCRIPTOR.fullmatch(path.as_posix())
    if found is None:
        return None
    return {"stdout": 1, "stderr": 2}[found["name"]] if found["name"] else int(found["number"])


def _problem(path: Path) -> str | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        folder = Path(os.path.realpath(path)).parent  # of what a link leads to
        if not folder.is_dir():
            return f"there is no folder {folder}"
        return None if os.access(folder, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    for is_kind, problem in _REFUSED:
        if is_kind(status.st_mode):
            return problem
    folder = Path(os.path.realpath(path)).parent
    if not os.access(path, os.W_OK) or (stat.S_ISREG(status.st_mode) and not os.access(folder, os.W_OK)):
        return os.strerror(errno.EACCES)
    return None


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
