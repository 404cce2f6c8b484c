"""Devices: one TOML file each, in which every number has a source. ``cpu`` is this host, described by the system."""

from .profile import DeviceProfile, Sourced
from .reader import read_device
from .registry import all_devices, device_aliases, device_names, load_device

__all__ = [
    "DeviceProfile",
    "Sourced",
    "all_devices",
    "device_aliases",
    "device_names",
    "load_device",
    "read_device",
]
