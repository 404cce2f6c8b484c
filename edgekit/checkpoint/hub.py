"""Fetches from the Hugging Face hub: what a repository holds, its small files, its weights, the beginning of a file.

Files stay in huggingface_hub's cache, which other programs share. The environment variables HF_ENDPOINT,
HF_HUB_OFFLINE, HF_TOKEN and HF_HOME have their usual meaning. ``recipes/hub_name.py`` reads the names that people type.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DiskFullError, EdgekitError, NetworkError, SourceError
from ..json_file import read_bounded
from ..ort import NO_TELEMETRY
from ..progress import Progress, no_progress

os.environ.update(NO_TELEMETRY)  # before huggingface_hub is loaded, which nothing else in edgekit does

_SMALL_FILES = ("*.json", "*.jinja", "tokenizer*")
_FILES = (*_SMALL_FILES, "*.safetensors")
IGNORED = ("*/*", "consolidated*.safetensors")  # other formats of the same weights
_TIMEOUT_S = 30.0
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PIECE_BYTES = 1 << 16
_ATTEMPTS = 5
_UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class HubFiles:
    """The names of a repository's files at one commit."""

    repository: str
    commit: str
    names: tuple[str, ...]


def list_hub(repository: str, revision: str = "main") -> HubFiles:
    """List a repository. Without a connection, the files in the cache are listed.

    Args:
        repository: ``owner/name``.
        revision: A commit, branch or tag.

    Raises:
        SourceError: The repository or revision does not exist, or access is denied.
        NetworkError: The hub cannot be reached, and the cache does not hold the repository.
    """
    with _checked_settings():
        from huggingface_hub import HfApi
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=_TIMEOUT_S)
    except Exception as error:
        failure = _hub_error(repository, revision, error)
        if not isinstance(failure, NetworkError):
            raise failure from error
        folder = _cached_snapshot(repository, revision)
        found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        weights = any(name.endswith((".safetensors", ".gguf")) for name in found)  # otherwise, it was only planned
        if not weights or not _COMMIT.fullmatch(folder.name):
            raise failure from error
        return HubFiles(repository, folder.name, tuple(found))
    names = [sibling.rfilename for sibling in info.siblings or ()]
    texts = all(isinstance(name, str) for name in names)
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha) or not texts:
        raise SourceError(
            f"the answer about {repository} at {revision} does not list the files of a commit", hint="check HF_ENDPOINT"
        )
    return HubFiles(repository, info.sha, tuple(sorted(filter(_is_usable, names))))


def _is_usable(name: str) -> bool:
    """Whether a file's name stays inside its repository and can be shown; other files are not listed."""
    return name.isprintable() and not name.startswith("/") and ".." not in PurePosixPath(name).parts


@contextmanager
def _checked_settings() -> Iterator[None]:
    """Translate what huggingface_hub raises while it is imported, which is when it reads its environment variables.

    What it prints then is dropped: a command's output may be JSON.

    Raises:
        SourceError: The value of a variable is not valid.
    """
    try:
        with redirect_stdout(io.StringIO()):
            yield
    except ValueError as error:
        raise SourceError(
            f"huggingface_hub cannot be used as it is set up: {error}",
            hint="check the environment variables that begin with HF_, such as HF_ENDPOINT",
        ) from None


def _cached_snapshot(repository: str, revision: str) -> Path:
    """The folder of a snapshot, which may be incomplete or missing.

    Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = revision
    with suppress(EdgekitError, UnicodeDecodeError):
        commit = read_bounded(reference, 1000).decode().strip()
    return folder / "snapshots" / commit


def fetch_hub(repository: str, revision: str, progress: Progress = no_progress, file: str = "") -> Path:
    """Fetch a model from the Hugging Face hub, or find it in the cache.

    If the connection breaks, the download continues at the byte where it stopped. After a lasting failure, a second
    call fetches only the missing files.

    Args:
        repository: ``owner/name``.
        revision: A commit, which always names the same weights. A branch or tag works too.
        progress: Called with the bytes of the whole download.
        file: A GGUF file of the repository; all parts of a split one are fetched. Empty for the safetensors files
            with their configuration and tokenizer.

    Returns:
        The folder of the snapshot, or the GGUF file in it.

    Raises:
        SourceError: The repository or revision does not exist, or access is denied.
        NetworkError: The hub cannot be reached, or the connection broke and did not recover.
        DiskFullError: The cache's disk is full.
    """
    if file:
        return _snapshot(repository, revision, (_SHARD.sub("-*-of-*.gguf", file),), (), progress) / file
    return _snapshot(repository, revision, _FILES, IGNORED, progress)


def fetch_hub_description(repository: str, revision: str, progress: Progress = no_progress) -> Path:
    """Fetch a repository's small files: its configuration and its tokenizer.

    Args, return value and exceptions are those of :func:`fetch_hub`.
    """
    return _snapshot(repository, revision, _SMALL_FILES, IGNORED, progress)


def fetch_hub_bytes(repository: str, revision: str, file: str, start: int, stop: int) -> bytes:
    """Fetch bytes start..stop of a file, or those up to its end, without storing them.

    Raises:
        SourceError, NetworkError: As for :func:`fetch_hub`.
    """
    with _checked_settings():
        from huggingface_hub import hf_hub_url, try_to_load_from_cache

        # Documented, but not marked as exported.
        from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]

    cached = try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(cached, str):
        with Path(cached).open("rb") as opened:
            opened.seek(start)
            return opened.read(stop - start)
    url = hf_hub_url(repository, file, revision=revision)
    try:
        headers = {**build_hf_headers(), "Range": f"bytes={start}-{stop - 1}"}
        return _read_range(get_session(), url, headers, start, stop)
    except Exception as error:
        raise _hub_error(repository, revision, error) from error


def _read_range(session: Any, url: str, headers: dict[str, str], start: int, stop: int) -> bytes:
    """Read bytes start..stop. A server that sends the whole file is read up to stop.

    Args:
        session: Of httpx, or of requests in huggingface_hub before 1.0.
        url: Of the file.
        headers: Of the request, with the range.
        start, stop: The range.
    """
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    is_httpx = callable(getattr(session, "stream", None))
    opened = (
        session.stream("GET", url, headers=headers, timeout=_TIMEOUT_S)
        if is_httpx
        else session.get(url, headers=headers, timeout=_TIMEOUT_S, stream=True)
    )
    with opened as response:
        if response.status_code == 416:  # the file ends before start
            return b""
        if response.status_code >= 400 and is_httpx:
            response.read()  # the message of the error is in the body
        hf_raise_for_status(response)
        first = start if response.status_code == 206 else 0
        content = bytearray()
        for piece in response.iter_bytes(_PIECE_BYTES) if is_httpx else response.iter_content(_PIECE_BYTES):
            content += piece
            if len(content) >= stop - first:
                break
    return bytes(content[start - first : stop - first])


def _snapshot(
    repository: str, revision: str, allowed: tuple[str, ...], ignored: tuple[str, ...], progress: Progress
) -> Path:
    with _checked_settings():
        from huggingface_hub import snapshot_download
    for attempt in range(_ATTEMPTS):
        try:
            folder = snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(allowed),
                ignore_patterns=list(ignored),
                tqdm_class=_progress_bar(f"downloading {repository}", progress),
            )
        except Exception as error:  # its own, its HTTP library's and the system's errors have no common base class
            # Before 1.0, huggingface_hub does not resume a download after this error; the next call does.
            if type(error).__name__ == "ChunkedEncodingError" and attempt + 1 < _ATTEMPTS:
                continue
            raise _hub_error(repository, revision, error) from error
        break
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
    if _disk_full(error):
        return DiskFullError(f"{what}: the cache's disk is full", hint="free space, or set HF_HOME to another disk")
    if isinstance(error, OSError) and error.errno in _UNUSABLE and error.filename:
        problem = f"{error.filename} cannot be used: {error.strerror}"
        return SourceError(f"{what}: {problem}", hint="set HF_HOME to a writable folder")
    if isinstance(error, UnicodeError):  # in a header
        return SourceError(f"{what}: {_first_line(error)}", hint="check HF_TOKEN")
    cause = error.__cause__ or error
    if getattr(getattr(cause, "response", None), "status_code", None) in (401, 403):
        return SourceError(f"{what}: access denied: {_first_line(cause)}", hint="check HF_TOKEN")
    hint = "check the network and HF_ENDPOINT; completed files are kept for the next attempt"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        hint = "HF_HUB_OFFLINE is set and the snapshot is not in the cache; unset it to allow the download"
    return NetworkError(f"{what}: {type(cause).__name__}: {_first_line(cause)}", hint)


def _disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or one that caused it, says that a disk is full; a downloader may tell only in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


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
