"""The artifacts of a server by name. Each is opened when it is first asked for.

If their memory is limited, those that were not used for the longest time and answer nobody are closed for others. A
folder whose files were replaced is opened again by the next request; answers that have begun keep the old files.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..artifact.manifest import FILE_NAME, Manifest
from ..errors import ContextLengthError, UsageError, nearest
from ..runtime.loading import trusted_manifest
from ..units import format_bytes
from .fields import cut
from .options import ServeOptions
from .request_error import RequestError, shutting_down
from .served_model import ServedModel

_log = logging.getLogger(__name__)
_RETRY_S = 5

# What tells a file from the one that replaces it: device, number, size and time of the last change.
_Identity = tuple[tuple[int, int, int, int], ...]


@dataclass
class _Opened:
    """An open artifact, and who uses it."""

    model: ServedModel
    identity: _Identity | None
    users: int = 0  # requests that are about to submit a job
    last_use: int = 0

    @property
    def is_idle(self) -> bool:
        return self.users == 0 and self.model.scheduler.jobs == (0, 0)


class Models:
    """A server's artifacts.

    Args:
        folders: The artifacts by name, at least one.
        options: The server's settings.

    Raises:
        ArtifactError: A folder is not an artifact, or not signed by the key that is demanded.
        ContextLengthError: One holds fewer tokens than the settings ask for.
    """

    def __init__(self, folders: Mapping[str, Path], options: ServeOptions) -> None:
        self._folders = dict(folders)
        self._manifests: dict[str, Manifest] = {
            name: trusted_manifest(path, options.public_key) for name, path in folders.items()
        }
        self._options = options
        self._check_context()
        self._open: dict[str, _Opened] = {}
        self._replaced: list[_Opened] = []  # whose files have been replaced, but which still answer requests
        self._uses = 0
        self._closed = False
        self._changing = threading.Lock()  # held while a model is opened or closed, which may take seconds
        self._counting = threading.Lock()  # held for moments, and while something is taken out of the above

    def _check_context(self) -> None:
        """Refuse a context that an artifact does not hold, before a request has to be refused for it."""
        context = self._options.engine_options.context
        longest = {name: int(manifest.model["context_length"]) for name, manifest in self._manifests.items()}
        small = [f"{name} holds at most {most}" for name, most in longest.items() if context and most < context]
        if small:
            raise ContextLengthError(
                f"a context of {context} tokens was requested; {', '.join(small)}",
                hint=f"ask for a context of {min(longest.values())} or less, or leave --context out",
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._folders)

    def find(self, name: str | None) -> str:
        """The name of the artifact that a request means.

        Raises:
            RequestError: There is no such artifact, or the request names none and there are several.
        """
        if name is None:
            if len(self._folders) == 1:
                return self.names[0]
            raise RequestError(f"model is missing; this server has: {', '.join(self.names)}", param="model")
        if name not in self._folders:
            raise RequestError(
                f"there is no model {cut(name)!r}; {nearest(cut(name), self.names)}",
                status=404,
                param="model",
                code="model_not_found",
            )
        return name

    @contextmanager
    def use(self, name: str) -> Iterator[ServedModel]:
        """Have an artifact open during the block; it is opened if it is not. May be called from any thread.

        A job that is submitted during the block keeps it open until it ends.

        Raises:
            EdgekitError: It cannot be opened.
            RequestError: There is no memory for it, or the server ends.
        """
        opened = self._used(name)
        if opened is not None:
            self._close_replaced()
        else:
            with self._changing:
                opened = self._used(name) or self._open_now(name)
        try:
            yield opened.model
        finally:
            with self._counting:
                opened.users -= 1

    def is_open(self, name: str) -> bool:
        """Whether :meth:`use` need not open an artifact, so that it returns at once."""
        opened = self._open.get(name)
        return opened is not None and not self._is_replaced(name, opened)

    def hold(self, model: ServedModel) -> Callable[[], None]:
        """Keep an artifact open, which somebody uses, until the function that is returned is called.

        Raises:
            RequestError: The server ends.
        """
        with self._counting:
            opened = next((each for each in (*self._open.values(), *self._replaced) if each.model is model), None)
            if opened is None:
                raise shutting_down()
            opened.users += 1

        def release() -> None:
            with self._counting:
                opened.users -= 1

        return release

    def get(self, name: str) -> ServedModel:
        """An open artifact. Opens it if it is not; raises as :meth:`use` does."""
        with self.use(name) as model:
            return model

    def opened(self) -> list[ServedModel]:
        """The artifacts that are open."""
        return [each.model for each in (*self._open.values(), *self._replaced)]

    def _used(self, name: str) -> _Opened | None:
        """Count a user of an open artifact; None if it has to be opened, perhaps again.

        Raises:
            RequestError: The server ends.
        """
        opened = self._open.get(name)
        current = opened is not None and not self._is_replaced(name, opened)
        with self._counting:
            if self._closed:
                raise shutting_down()
            if opened is None or not current or self._open.get(name) is not opened:
                return None
            self._count(opened)
        return opened

    def _count(self, opened: _Opened) -> None:
        opened.users += 1
        self._uses += 1
        opened.last_use = self._uses

    def _is_replaced(self, name: str, opened: _Opened) -> bool:
        """Whether an artifact's folder has other files than those that were opened."""
        identity = _identity(self._folders[name])
        return identity is not None and identity != opened.identity

    def _open_now(self, name: str) -> _Opened:
        """Open an artifact, and count its first user."""
        folder = self._folders[name]
        identity = _identity(folder)
        with self._counting:
            old = self._open.pop(name, None)
            if old is not None:
                self._replaced.append(old)
        if old is not None:
            _log.warning("the files of %s (%s) were replaced; they are opened again", name, folder)
        self._close_all_idle()
        self._manifests[name] = trusted_manifest(folder, self._options.public_key)
        made = _Opened(self._opened_model(name), identity)
        with self._counting:
            self._open[name] = made
            self._count(made)
        return made

    def _close_replaced(self) -> None:
        """Close what has been replaced and is used no more, unless another thread opens or closes something."""
        if self._replaced and self._changing.acquire(blocking=False):
            try:
                self._close_all_idle()
            finally:
                self._changing.release()

    def _close_all_idle(self) -> None:
        while self._close_idle(self._replaced):
            pass

    def _close_idle(self, among: Sequence[_Opened]) -> bool:
        """Close the one that nobody has used for the longest time; False if all are used."""
        with self._counting:
            idle = [each for each in among if each.is_idle]
            if not idle:
                return False
            oldest = min(idle, key=lambda each: each.last_use)
            self._open = {name: each for name, each in self._open.items() if each is not oldest}
            self._replaced = [each for each in self._replaced if each is not oldest]
        oldest.model.close()
        return True

    def _opened_model(self, name: str) -> ServedModel:
        folder, manifest = self._folders[name], self._manifests[name]
        weights = sum(int(each["size_bytes"]) for file, each in manifest.files.items() if file.endswith(".data"))
        self._make_room(name, weights)  # before they are read
        model = ServedModel.open(name, folder, manifest, self._options, weights)
        try:
            self._make_room(name, model.memory_bytes)
        except BaseException:
            model.close()
            raise
        return model

    def _make_room(self, name: str, size: int) -> None:
        """Close artifacts that nobody uses until another one of this size fits.

        Raises:
            RequestError: It does not fit.
        """
        limit = self._options.memory_bytes
        if limit is None:
            return
        if size > limit:
            raise RequestError(
                f"{name} needs {format_bytes(size)} with its KV caches; this server may use {format_bytes(limit)}. "
                "Start it with a larger --memory, or a smaller --context, --parallel or --prefix-memory",
                status=503,
                code="insufficient_memory",
            )
        while sum(each.memory_bytes for each in self.opened()) + size > limit:
            if not self._close_idle([*self._replaced, *self._open.values()]):
                busy = ", ".join(sorted({each.name for each in self.opened()}))
                raise RequestError(
                    f"there is no memory for {name} while {busy} answers requests: it needs {format_bytes(size)}, and "
                    f"this server may use {format_bytes(limit)}; try again in about {_RETRY_S} s",
                    status=503,
                    code="insufficient_memory",
                    headers={"retry-after": str(_RETRY_S)},
                )

    def file_bytes(self, name: str) -> int:
        """The size of an artifact's files."""
        return sum(int(facts["size_bytes"]) for facts in self._manifests[name].files.values())

    def describe(self, name: str) -> dict[str, Any]:
        """An artifact as OpenAI's API describes a model, and whether it thinks before it answers."""
        manifest = self._manifests[name]
        return {
            "id": name,
            "object": "model",
            "created": _seconds(manifest.created),
            "owned_by": "edgekit",
            "reasoning": manifest.reasoning,  # edgekit's own field
        }

    def close(self) -> None:
        """End all answers and free the models."""
        with self._changing:
            with self._counting:
                self._closed = True
                opened = self.opened()
                self._open, self._replaced = {}, []
            for model in opened:
                model.close()


def named_artifacts(arguments: Sequence[str]) -> dict[str, Path]:
    """The artifacts of a command line by name.

    Args:
        arguments: Folders, whose names are the models' names, or ``NAME=FOLDER``.

    Raises:
        UsageError: Two artifacts have the same name.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        name, given, path = argument.partition("=")
        folder = Path(path if given else argument)
        name = name if given else os.path.basename(os.path.realpath(folder))
        if name in found:
            raise UsageError(f"{found[name]} and {folder} have the same name {name!r}", hint="use NAME=FOLDER")
        found[name] = folder
    return found


def _identity(folder: Path) -> _Identity | None:
    """What identifies the files of an artifact; None while they are being replaced."""
    with suppress(OSError):
        found = [(folder / name).stat() for name in (FILE_NAME, "model.onnx", "model.onnx.data", "tokenizer.json")]
        return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found)
    return None


def _seconds(created: str) -> int:
    """A manifest's time as seconds since 1970; 0 if it is not a time."""
    try:
        return int(datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp())
    except ValueError:
        return 0
