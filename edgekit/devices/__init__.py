"""Devices: one TOML file each, in which every number carries its source; ``cpu`` is probed instead."""

from .probe import probe_host
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
    "probe_host",
    "read_device",
]
