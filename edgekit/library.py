"""Named TOML files: those that come with edgekit, the user's own, and any file by its path.

A name or alias stands for exactly one file. A second file that claims it is an error, whichever folder it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import EdgekitError, UnknownNameError, nearest

_T = TypeVar("_T")


@dataclass(frozen=True)
class Library(Generic[_T]):
    """The files of one kind. A file's stem is its name.

    Args:
        kind: ``recipe`` or ``device``. ``edgekit`` with an s added lists them.
        built_in: Where the files that come with edgekit may be; the first folder that exists is used.
        read: Reads a file.
        error: The error that a problem with the library raises.
        aliases: The other names of what a file contains; they must be written in the file as ``"alias"``.
        user_folder: Returns the folder of the user's own files, which need not exist.
    """

    kind: str
    built_in: tuple[Path, ...]
    read: Callable[[Path], _T]
    error: type[EdgekitError]
    aliases: Callable[[_T], Iterable[str]] | None = None
    user_folder: Callable[[], Path] | None = None

    def folder(self) -> Path:
        """The folder of the files that come with edgekit.

        Raises:
            EdgekitError: It is missing; an instance of ``error``.
        """
        for folder in self.built_in:
            if folder.is_dir():
                return folder
        raise self.error(
            f"edgekit's {self.kind}s are missing: there is no folder {self.built_in[0]}",
            hint="install edgekit-llm again",
        )

    def files(self) -> dict[str, Path]:
        """Every name and its file, sorted by name.

        Raises:
            EdgekitError: A user's file has the name of one that comes with edgekit; an instance of ``error``.
        """
        files = {path.stem: path for path in self.folder().glob("*.toml")}
        for path in self._user_files():
            if path.stem in files:
                raise self.error(
                    f"{path} has the name of a {self.kind} that comes with edgekit", hint="give the file another name"
                )
            files[path.stem] = path
        return dict(sorted(files.items()))

    def names(self) -> tuple[str, ...]:
        """Every name, sorted."""
        return tuple(self.files())

    def read_all(self) -> tuple[_T, ...]:
        """The content of every file, sorted by name."""
        return tuple(self._read_files(self.files()).values())

    def alias_names(self) -> dict[str, str]:
        """Every alias and the name it stands for.

        Raises:
            EdgekitError: An alias has two meanings; an instance of ``error``.
        """
        return self._resolve(self._read_files(self.files()))

    def find(self, name_or_path: str | Path) -> _T:
        """The content of a file.

        Args:
            name_or_path: A name or alias, or a path: a ``Path``, or text that ends in ``.toml``.

        Raises:
            UnknownNameError: There is no such name; names the nearest.
            EdgekitError: The file is invalid, or an alias has two meanings; an instance of ``error``.
        """
        if isinstance(name_or_path, Path) or name_or_path.endswith(".toml"):
            return self.read(Path(name_or_path))
        related = self._read_related(name_or_path)
        name = self._resolve(related).get(name_or_path, name_or_path)
        if name not in related:
            names = {*self.names(), *self.alias_names()}
            raise UnknownNameError(
                f"there is no {self.kind} {name_or_path!r}; {nearest(name_or_path, names)}",
                hint=f"edgekit {self.kind}s lists them; the path of a .toml file works too",
            )
        return related[name]

    def _user_files(self) -> list[Path]:
        return [] if self.user_folder is None else sorted(self.user_folder().glob("*.toml"))

    def _read_related(self, name: str) -> dict[str, _T]:
        """The files that a name may mean and those that may contradict it, by name.

        These are all files of the user, and the built-in ones that have or contain this name or another one of the
        files found. Parsing the whole library takes as long as a plan, so the texts are searched first.
        """
        files = self.files()
        if self.aliases is None:
            return self._read_files({name: files[name]} if name in files else {})
        own = set(self._user_files())
        texts = {path: path.read_text(encoding="utf-8") for path in files.values() if path not in own}
        words, found = {name}, own
        while True:
            entries = self._read_files({each: path for each, path in files.items() if path in found})
            words = words.union(*((each, *self.aliases(entry)) for each, entry in entries.items()))
            named = {path for path, text in texts.items() if path.stem in words or any(f'"{w}"' in text for w in words)}
            if own | named == found:
                return entries
            found = own | named

    def _read_files(self, files: dict[str, Path]) -> dict[str, _T]:
        return {name: _read_once(self.read, path, path.stat().st_mtime_ns) for name, path in files.items()}

    def _resolve(self, entries: dict[str, _T]) -> dict[str, str]:
        """The name that each alias of these files stands for."""
        owners = {name: name for name in entries}
        found: dict[str, str] = {}
        for name, entry in entries.items():
            for alias in self.aliases(entry) if self.aliases else ():
                if alias in owners:
                    raise self.error(f"the alias {alias!r} of {name}.toml already means {owners[alias]}")
                owners[alias] = found[alias] = name
        return found


@lru_cache(maxsize=256)
def _read_once(read: Callable[[Path], Any], path: Path, changed_ns: int) -> Any:
    """A file is read again only after it changes: looking for alternatives reads the whole library many times."""
    return read(path)
