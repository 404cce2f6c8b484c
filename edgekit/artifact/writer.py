"""Writes folders atomically: the files go to a temporary folder next to the output, which is renamed at the end.

Everything is on the disk before the folder gets its name, so a power failure leaves the old folder or the new one.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..durable import free_space, sync_folder, sync_tree
from ..errors import BuildError, DiskFullError, EdgekitError, OutputExistsError
from ..hashing import sha256_file
from ..leftovers import exchange, held, locked_folder, make_ready, new_name, partial_name, ready_name, remove
from ..output_file import artifact_around
from ..progress import Share, no_share
from ..units import format_bytes
from .manifest import FILE_NAME

_MEANWHILE = (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)  # another build took the name away, or took it
_TRIES = 100


def check_output(out: Path, force: bool, marker: str = FILE_NAME) -> None:
    """Check, before any work is done, that an output folder can be written.

    Args:
        out: The output folder.
        force: Whether an existing folder of the same kind may be replaced.
        marker: A file that identifies a folder of this kind.

    Raises:
        OutputExistsError: ``out`` exists and ``force`` is false, or ``out`` is not a folder of this kind.
        BuildError: The folder that it would be in cannot be created or written.
    """
    check_place(out)
    if out.exists() or out.is_symlink():
        if not force:
            raise OutputExistsError(f"{out} already exists", hint="--force replaces it, --out chooses another folder")
        # A typo in --out must never delete an unrelated folder.
        if not out.is_dir() or out.is_symlink() or (any(out.iterdir()) and not (out / marker).is_file()):
            kind = "an artifact" if marker == FILE_NAME else f"a folder with {marker}"
            raise OutputExistsError(f"{out} exists and is not {kind}, so --force does not replace it")
    there = next((folder for folder in out.parents if os.path.lexists(folder)), out.parent)
    if not there.is_dir():
        raise BuildError(f"cannot create the folder {out.parent}: {os.strerror(errno.ENOTDIR)}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BuildError(f"cannot write into the folder {there}")


def check_place(out: Path) -> None:
    """Check that a folder can get a name, and that it damages nothing there.

    Raises:
        OutputExistsError: The name is a mount point, which cannot be replaced, or inside an artifact.
    """
    if os.path.ismount(out):
        raise OutputExistsError(
            f"{out} is a mount point, which cannot be replaced",
            hint=f"choose a folder inside it: --out {shlex.quote(str(out / 'NAME'))}",
        )
    if (artifact := artifact_around(out)) is not None:
        raise OutputExistsError(
            f"{out} is inside the artifact {artifact}, to which nothing can be added",
            hint="--out chooses another folder",
        )


@contextmanager
def made_parents(out: Path) -> Iterator[None]:
    """Make the folders that a path is in. If the block fails, those that were made and are empty are removed again.

    Raises:
        OSError: One of them cannot be made.
    """
    missing = [folder for folder in out.parents if not os.path.lexists(folder)]  # from the innermost
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def whole_folder(out: Path, force: bool, marker: str = FILE_NAME) -> Iterator[Path]:
    """Provide a temporary folder next to ``out``; rename it to ``out`` when the block ends, delete it if it fails.

    Args:
        out: The output folder.
        force: Whether an existing artifact may be replaced.
        marker: As for :func:`check_output`.

    Raises:
        OutputExistsError: As for :func:`check_output`.
        DiskFullError, BuildError: The operating system could not write.
    """
    check_output(out, force, marker)
    try:
        with made_parents(out), locked_folder(out.parent, f".{out.name}.partial-") as partial:
            try:
                yield partial
            except EdgekitError as error:
                error.rename(str(partial), str(out))
                raise
            ready = ready_name(partial)
            give_name(ready if ready.is_dir() else partial, out, lambda: check_output(out, force, marker))
    except OSError as error:  # a write failed: errors while reading a checkpoint are raised as CheckpointError
        raise disk_error(error, out, None) from error


def hold_ready(partial: Path) -> None:
    """Keep a finished folder of :func:`whole_folder` from being lost if only the artifact beside it gets its name.

    Args:
        partial: The temporary folder of what a build writes beside the artifact, whose block ends right after the
            artifact's.

    Raises:
        OSError: It cannot be written to the disk.
    """
    sync_tree(partial)
    make_ready(partial)
    sync_folder(partial.parent)


def set_aside(partial: Path, place: Path) -> None:
    """Keep the temporary folder of :func:`whole_folder` under another name.

    Args:
        partial: The temporary folder.
        place: The new name. An artifact there is replaced; call :func:`check_output` for it first.
    """
    give_name(partial, place, lambda: check_output(place, True))


def give_name(folder: Path, out: Path, check: Callable[[], None]) -> None:
    """Rename a finished folder, and delete what it replaces.

    The two change their names in one step where the system can do that (Linux and macOS, on most file systems).
    Otherwise, the old folder is without a name for a moment, and the next build restores it if this process is killed
    in that moment.

    Args:
        folder: The finished folder.
        out: Its final name.
        check: Called before each attempt; raises if the name is taken by something that must not be replaced.

    Raises:
        OSError: The folder cannot be renamed, or not be written to the disk.
    """
    sync_tree(folder)
    for attempt in range(_TRIES, -1, -1):
        check()
        try:
            if not out.exists():
                folder.rename(out)
                sync_folder(out.parent)
            elif exchange(folder, out):
                sync_folder(out.parent)  # before the old one is deleted
                remove(folder.rename(partial_name(folder)))
            else:
                _replace(folder, out)
            return
        except OSError as error:
            if error.errno not in _MEANWHILE or not attempt:
                raise


def _replace(folder: Path, out: Path) -> None:
    with held(out):
        replaced = out.parent / new_name(f".{out.name}.replaced-")
        out.rename(replaced)
        try:
            folder.rename(out)
        except OSError:
            with suppress(OSError):
                replaced.rename(out)
            raise
        sync_folder(out.parent)
        shutil.rmtree(replaced, ignore_errors=True)


def hash_files(paths: list[Path], progress: Share = no_share) -> dict[str, dict[str, str | int]]:
    """Hash files of one folder.

    Args:
        paths: The files. Their names, without folders, become the keys.
        progress: Called with the bytes done and the bytes in total.

    Returns:
        ``{name: {"sha256", "size_bytes"}}``, sorted by name.

    Raises:
        ValueError: Two files have the same name, so one would replace the other.
    """
    named = {path.name: path for path in paths}
    if len(named) < len(set(paths)):
        raise ValueError(f"{len(set(paths))} files have only {len(named)} names; hash_named() takes a name for each")
    return hash_named(named, progress)


def hash_named(files: Mapping[str, Path], progress: Share = no_share) -> dict[str, dict[str, str | int]]:
    """Hash files that have names of their own.

    Args:
        files: Name -> file.
        progress: Called with the bytes done and the bytes in total.

    Returns:
        ``{name: {"sha256", "size_bytes"}}``, sorted by name.
    """
    sizes = {name: files[name].stat().st_size for name in sorted(files)}
    total, done = sum(sizes.values()), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return {name: {"sha256": sha256_file(files[name], advance), "size_bytes": size} for name, size in sizes.items()}


def disk_error(error: OSError, path: Path | None, size_bytes: int | None) -> BuildError:
    """Translate an operating-system error while writing to a DiskFullError or another BuildError.

    Args:
        error: The error.
        path: The file or folder that was being written, if known.
        size_bytes: The number of bytes that were being written, if known.
    """
    where = f" to {path}" if path else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        size = f" {format_bytes(size_bytes)}" if size_bytes is not None else ""
        free = f"; {free_space(path)}" if path and error.errno != errno.EFBIG else ""
        return DiskFullError(
            f"no space to write{size}{where}: {error.strerror}{free}",
            hint="free some space, or choose a folder on another disk with --out",
        )
    return BuildError(f"cannot write{where}: {error.strerror}")
