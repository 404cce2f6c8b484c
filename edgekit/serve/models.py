"""The artifacts of a server by name. Each is opened when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ..artifact.manifest import Manifest, read_manifest
from ..errors import UsageError, nearest
from .options import ServeOptions
from .request_error import RequestError
from .served_model import ServedModel


class Models:
    """A server's artifacts.

    Args:
        folders: The artifacts by name, at least one.
        options: The server's settings.

    Raises:
        ArtifactError: A folder is not an artifact.
    """

    def __init__(self, folders: Mapping[str, Path], options: ServeOptions) -> None:
        self._folders = dict(folders)
        self._manifests: dict[str, Manifest] = {name: read_manifest(path) for name, path in folders.items()}
        self._options = options
        self._open: dict[str, ServedModel] = {}
        self._lock = threading.Lock()  # held while a model is opened

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
                f"there is no model {name!r}; {nearest(name, self.names)}",
                status=404,
                param="model",
                code="model_not_found",
            )
        return name

    def get(self, name: str) -> ServedModel:
        """An open artifact. Opens it if this is the first time. May be called from any thread.

        Raises:
            EdgekitError: It cannot be opened.
        """
        with self._lock:
            if name not in self._open:
                folder = self._folders[name]
                self._open[name] = ServedModel.open(name, folder, self._manifests[name], self._options)
            return self._open[name]

    def opened(self) -> list[ServedModel]:
        """The artifacts that are open."""
        return list(self._open.values())

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
        with self._lock:
            for model in self._open.values():
                model.close()
            self._open.clear()


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
        name = name if given else folder.resolve().name
        if name in found:
            raise UsageError(f"{found[name]} and {folder} have the same name {name!r}", hint="use NAME=FOLDER")
        found[name] = folder
    return found


def _seconds(created: str) -> int:
    """A manifest's time as seconds since 1970; 0 if it is not a time."""
    try:
        return int(datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp())
    except ValueError:
        return 0
