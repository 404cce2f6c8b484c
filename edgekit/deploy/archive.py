"""Writes a folder as one ``.tar.zst`` with the same bytes every time: sorted names, no times, no owners.

Zstandard is in Python's standard library from 3.14 on; for older Pythons the package backports.zstd has the same
module.
The bytes also depend on the version of Zstandard.
"""

from __future__ import annotations

import importlib
import os
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from ..errors import MissingPackageError
from ..progress import Progress, no_progress

SUFFIX = ".tar.zst"
_LEVEL = 3  # quantized weights hardly shrink; higher levels take much longer for 1 % of the size
_EXECUTABLE = 0o100


def zstandard() -> Any:
    """The module of Zstandard.

    Raises:
        MissingPackageError: This Python has none, and backports.zstd is not installed.
    """
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise MissingPackageError.for_extra("compile", ["backports.zstd"], f"writing a {SUFFIX} file") from None


def holds_bundle(file: Path) -> bool:
    """Whether a file is a ``.tar.zst`` whose first file is that of a bundle, ``SHA256SUMS``."""
    zstd = zstandard()
    try:
        with zstd.open(file, "rb") as packed, tarfile.open(fileobj=cast(IO[bytes], packed), mode="r|") as archive:
            first = archive.next()
    except (OSError, EOFError, tarfile.TarError, zstd.ZstdError):
        return False
    return first is not None and PurePosixPath(first.name).name == "SHA256SUMS"


def write_archive(folder: Path, file: Path, top: str, progress: Progress = no_progress) -> None:
    """Write the files of a folder.

    Args:
        folder: The folder.
        file: The file to write.
        top: The name of the folder in the archive.
        progress: Called with the phase's name, the bytes done and the bytes in total.

    Raises:
        MissingPackageError: There is no Zstandard.
        OSError: A file cannot be read or written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    total = sum((folder / name).stat().st_size for name in names)
    done = 0
    with (
        zstandard().open(file, "wb", level=_LEVEL) as packed,
        tarfile.open(fileobj=cast(IO[bytes], packed), mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in names:
            entry = tarfile.TarInfo(f"{top}/{name}")
            with (folder / name).open("rb") as content:
                status = os.fstat(content.fileno())
                entry.size = status.st_size
                entry.mode = 0o755 if status.st_mode & _EXECUTABLE else 0o644
                archive.addfile(entry, content)
            done += status.st_size
            progress("packing", done, total)
