"""Devices: one TOML file each, in which every number has a source. ``cpu`` is this host, described by the system."""

from .profile import DeviceProfile, Sourced
from .registry import all_devices, device_names, load_device

__all__ = ["DeviceProfile", "Sourced", "all_devices", "device_names", "load_device"]
