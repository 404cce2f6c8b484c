"""A device profile."""

from pathlib import Path

from fuzz_changes import toml_change as change
from fuzz_files import written

from edgekit.devices import DeviceProfile
from edgekit.devices.reader import read_device
from edgekit.devices.writer import format_device

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted((Path(__file__).parents[2] / "devices").glob("*.toml"))]


def read(data: bytes) -> None:
    found = read_device(written("device.toml", data))
    if isinstance(found, DeviceProfile):
        _ = found.usable_bytes
        format_device(found)
