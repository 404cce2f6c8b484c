"""Devices by name or alias: the library that comes with edgekit, the user's own folder, and any file.

The user's folder is ``$XDG_CONFIG_HOME/edgekit/devices``, by default ``~/.config/edgekit/devices``
(https://specifications.freedesktop.org/basedir-spec/latest/). A name or alias means one device: what claims another's
is an error, whichever of the two folders it lies in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ..errors import DeviceProfileError, UnknownNameError, nearest
from .host_profile import host_profile
from .profile import DeviceProfile, HostDefaults
from .reader import read_device

_INSTALLED = Path(__file__).parent / "library"
_CHECKOUT = Path(__file__).parents[2] / "devices"  # an editable install runs from the source tree


def library() -> Path:
    """The folder of device files: the installed package's, or the source checkout's.

    Raises:
        DeviceProfileError: Neither is there.
    """
    for folder in (_INSTALLED, _CHECKOUT):
        if folder.is_dir():
            return folder
    raise DeviceProfileError(f"edgekit's devices are missing: no folder {_INSTALLED}", hint="install edgekit-llm again")


def user_folder() -> Path:
    """Where the user's own device files lie; it need not be there."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".config") / "edgekit" / "devices"


def device_names() -> tuple[str, ...]:
    """The names of the library's and the user's devices, sorted.

    Raises:
        DeviceProfileError: A file of the user has the name of a device of the library.
    """
    return tuple(sorted(path.stem for path in _files()))


def device_file(name: str) -> Path:
    """The file of a device that :func:`device_names` lists."""
    return next(path for path in _files() if path.stem == name)


def device_aliases() -> dict[str, str]:
    """The device each alias stands for.

    Raises:
        DeviceProfileError: Two devices claim an alias, or an alias is another device's name.
    """
    return _aliases(_read_all())


def all_devices() -> tuple[DeviceProfile, ...]:
    """Every device of the library and the user, by name; the host is probed."""
    return tuple(_resolve(entry) for entry in _read_all())


def load_device(name_or_path: str | Path) -> DeviceProfile:
    """A device by its name or alias, or from a file of the user.

    Args:
        name_or_path: A name or alias, or a path: a ``Path``, or text that ends in ``.toml``.

    Raises:
        UnknownNameError: There is no such device; names the nearest.
        DeviceProfileError: The file is not a valid profile, or the host cannot be probed.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(".toml"):
        return _resolve(read_device(Path(name_or_path)))
    found = _find(name_or_path, _read_about(name_or_path))
    if found is None:
        entries = _read_all()
        names = {entry.name for entry in entries} | set(_aliases(entries))
        raise UnknownNameError(
            f"there is no device {name_or_path!r}; {nearest(name_or_path, names)}",
            hint="edgekit devices lists them; the path of a .toml file works too",
        )
    return _resolve(found)


def _find(name: str, entries: tuple[HostDefaults, ...]) -> HostDefaults | None:
    name = _aliases(entries).get(name, name)
    return next((entry for entry in entries if entry.name == name), None)


def _read_all() -> tuple[HostDefaults, ...]:
    return _read_files(_files())


def _read_about(name: str) -> tuple[HostDefaults, ...]:
    """What a name may mean, and whoever may contradict it: every device of the user, and those of the library that have
    or quote this name or one of those found. Parsing all of the library takes as long as a whole plan.
    """
    files = _files()
    own = [path for path in files if path.parent == user_folder()]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path not in own}
    words, found = {name}, own
    while True:
        entries = _read_files(found)
        words = words.union(*((entry.name, *entry.aliases) for entry in entries))
        named = [path for path, text in texts.items() if path.stem in words or any(f'"{w}"' in text for w in words)]
        if len(own) + len(named) == len(found):
            return entries
        found = own + named


def _read_files(paths: list[Path]) -> tuple[HostDefaults, ...]:
    """By name."""
    paths = sorted(paths, key=lambda path: path.stem)
    return tuple(_read(path, path.stat().st_mtime_ns) for path in paths)


@lru_cache(maxsize=256)
def _read(path: Path, changed_ns: int) -> HostDefaults:
    """A file as it was then: finding a device and offering others each read the whole library."""
    return read_device(path)


def _files() -> list[Path]:
    """Every device file, each name once."""
    files = {path.stem: path for path in library().glob("*.toml")}
    for path in sorted(user_folder().glob("*.toml")):
        if path.stem in files:
            raise DeviceProfileError(
                f"{path} has the name of a device that comes with edgekit", hint="give the file another name"
            )
        files[path.stem] = path
    return list(files.values())


def _resolve(entry: HostDefaults) -> DeviceProfile:
    return entry if isinstance(entry, DeviceProfile) else host_profile(entry)


def _aliases(entries: Iterable[HostDefaults]) -> dict[str, str]:
    entries = tuple(entries)
    owners = {entry.name: entry.name for entry in entries}
    aliases: dict[str, str] = {}
    for entry in entries:
        for alias in entry.aliases:
            if alias in owners:
                raise DeviceProfileError(f"the alias {alias!r} of {entry.name}.toml already means {owners[alias]}")
            owners[alias] = aliases[alias] = entry.name
    return aliases
