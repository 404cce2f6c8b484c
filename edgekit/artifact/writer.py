"""A folder that appears whole or not at all: written beside its place under another name, renamed when finished."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BuildError, DiskFullError, OutputExistsError
from ..units import format_bytes
from .manifest import FILE_NAME

_CHUNK = 4 << 20


def check_output(out: Path, force: bool, marker: str = FILE_NAME) -> None:
    """Refuse, before any work, a place where the artifact cannot go.

    Args:
        out: The place.
        force: Replace what is there, if it is a folder of the same kind.
        marker: The file by which such a folder is known.

    Raises:
        OutputExistsError: ``out`` is there and ``force`` was not given, or it is something else than an artifact.
        BuildError: Its parent folder cannot be made or written.
    """
    if out.exists() or out.is_symlink():
        if not force:
            raise OutputExistsError(f"{out} is there already", hint="--force replaces it, --out chooses another place")
        # Never delete a folder of something else because of a slip in --out.
        if not out.is_dir() or out.is_symlink() or (any(out.iterdir()) and not (out / marker).is_file()):
            kind = "artifact" if marker == FILE_NAME else f"folder with {marker}"
            raise OutputExistsError(f"{out} is there and is no {kind}, so --force does not replace it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"cannot make the folder {out.parent}: {error.strerror}") from None
    if not os.access(out.parent, os.W_OK):
        raise BuildError(f"cannot write into the folder {out.parent}")


@contextmanager
def whole_folder(out: Path, force: bool, marker: str = FILE_NAME) -> Iterator[Path]:
    """Give a temporary sibling of ``out`` to write into; rename it when the block ends, remove it when it fails.

    Args:
        out: The final place.
        force: Replace an artifact that is there.
        marker: As :func:`check_output` has it.

    Raises:
        OutputExistsError: As :func:`check_output`.
        DiskFullError, BuildError: The operating system refused to write.
    """
    check_output(out, force, marker)
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        check_output(out, force, marker)
        if out.exists():
            replaced = out.parent / f".{out.name}.replaced-{os.getpid()}"
            out.rename(replaced)
            partial.rename(out)
            shutil.rmtree(replaced)
        else:
            partial.rename(out)
    except OSError as error:  # what reads a checkpoint turns its own into CheckpointErrors
        raise disk_error(error, out, None) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def set_aside(partial: Path, place: Path) -> None:
    """Keep a finished folder that :func:`whole_folder` gave under another name than it was meant for.

    Args:
        partial: The folder.
        place: Where it goes; an artifact there is replaced. :func:`check_output` was asked about it before.
    """
    if place.exists():
        shutil.rmtree(place)
    partial.rename(place)


def hash_files(
    paths: list[Path], progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, dict[str, str | int]]:
    """Hash files.

    Args:
        paths: The files; their names, without folders, become the keys.
        progress: Called with (bytes done, bytes in all).

    Returns:
        ``{name: {"sha256", "size_bytes"}}``, sorted by name.
    """
    total = sum(p.stat().st_size for p in paths)
    done = 0
    found: dict[str, dict[str, str | int]] = {}
    buffer = bytearray(_CHUNK)
    for path in sorted(paths):
        digest, size = hashlib.sha256(), 0
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
                size, done = size + count, done + count
                progress(done, total)
        found[path.name] = {"sha256": digest.hexdigest(), "size_bytes": size}
    return found


def disk_error(error: OSError, path: Path | None, size_bytes: int | None) -> BuildError:
    """What an operating-system error while writing means: no room (DiskFullError), or something else.

    Args:
        error: What was raised.
        path: What was being written, where that is known.
        size_bytes: How much of it, where that is known.
    """
    where = f" to {path}" if path else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        size = f" {format_bytes(size_bytes)}" if size_bytes is not None else ""
        return DiskFullError(
            f"no room to write{size}{where}: {error.strerror}",
            hint="free some space, or choose another place with --out",
        )
    return BuildError(f"cannot write{where}: {error.strerror}")
