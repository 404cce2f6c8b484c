"""Devices by name or alias: those that come with edgekit, the user's own, and any file.

The user's folder is ``$XDG_CONFIG_HOME/edgekit/devices``, by default ``~/.config/edgekit/devices``
(https://specifications.freedesktop.org/basedir-spec/latest/).
"""

from __future__ import annotations

from pathlib import Path

from ..errors import DeviceProfileError
from ..host import base_folder
from ..library import Library
from .host_profile import host_profile
from .profile import DeviceProfile, HostDefaults
from .reader import read_device


def user_folder() -> Path:
    """The folder of the user's own device files, which need not exist."""
    return base_folder("XDG_CONFIG_HOME", ".config") / "edgekit" / "devices"


# The folder of the installed package, or of the source tree that an editable install runs from.
LIBRARY: Library[HostDefaults] = Library(
    kind="device",
    built_in=(Path(__file__).parent / "library", Path(__file__).parents[2] / "devices"),
    read=read_device,
    error=DeviceProfileError,
    aliases=lambda entry: entry.aliases,
    user_folder=user_folder,
)


def device_names() -> tuple[str, ...]:
    """The names of all devices, sorted.

    Raises:
        DeviceProfileError: A file of the user has the name of a device that comes with edgekit.
    """
    return LIBRARY.names()


def device_file(name: str) -> Path:
    """The file of a device that :func:`device_names` lists."""
    return LIBRARY.files()[name]


def all_devices() -> tuple[DeviceProfile, ...]:
    """Every device, by name; this host is described by the system."""
    return tuple(map(_profile, LIBRARY.read_all()))


def load_device(name_or_path: str | Path | DeviceProfile) -> DeviceProfile:
    """A device by its name or alias, or from a file.

    Args:
        name_or_path: A name or alias, or a path: a ``Path``, or text that ends in ``.toml``. A profile is returned
            unchanged.

    Raises:
        UnknownNameError: There is no such device; names the nearest.
        DeviceProfileError: The file is not a valid profile, or this host's memory is unknown.
    """
    return _profile(LIBRARY.find(name_or_path) if isinstance(name_or_path, str | Path) else name_or_path)


def _profile(entry: HostDefaults) -> DeviceProfile:
    return entry if isinstance(entry, DeviceProfile) else host_profile(entry)
