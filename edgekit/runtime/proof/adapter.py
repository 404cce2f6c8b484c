"""Which GPU and driver this machine has, as Vulkan or CUDA tells by ctypes. A proof holds for one GPU and driver."""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass

from ...errors import AcceleratorError

_VULKAN = {"linux": "libvulkan.so.1", "win32": "vulkan-1.dll"}
_NVIDIA = 0x10DE  # PCI vendor id
# VkPhysicalDeviceType, in the order in which Dawn prefers them: discrete, integrated, virtual, other, processor.
_PREFERENCE = {2: 0, 1: 1, 3: 2, 0: 3, 4: 4}
_SHARES_MEMORY = {1: True, 2: False, 4: True}  # by VkPhysicalDeviceType
_CUDA_INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED
_INSTANCE_INFO, _APPLICATION_INFO, _FEATURES = 1, 0, 1000059000  # VkStructureType
_FLOAT16_FEATURES, _STORAGE16_FEATURES = 1000082000, 1000083000
_VERSION_1_1 = 1 << 22 | 1 << 12


@dataclass(frozen=True)
class Adapter:
    """A GPU.

    Attributes:
        name: Its name, as its driver tells it.
        driver: The driver's version.
        float16: Whether its shaders can compute in float16; None if that is not known.
        shares_memory: Whether its memory is the system's; None if that is not known.
    """

    name: str
    driver: str
    float16: bool | None = None
    shares_memory: bool | None = None

    def __str__(self) -> str:
        return f"{self.name} (driver {self.driver})"


def vulkan_adapter() -> Adapter:
    """The GPU that WebGPU uses; on systems where WebGPU does not use Vulkan, the system takes the driver's place.

    Raises:
        AcceleratorError: There is no Vulkan loader, or it finds no GPU.
    """
    library = _VULKAN.get(sys.platform)
    if library is None:
        return Adapter(platform.processor() or platform.machine(), platform.version(), True)
    try:
        vulkan = ctypes.CDLL(library)
    except OSError as error:
        if sys.platform == "win32":  # WebGPU uses Direct3D there
            return Adapter("Direct3D 12", platform.version())
        raise AcceleratorError(
            f"WebGPU needs the Vulkan loader, {library}: {error}", hint="apt-get install libvulkan1"
        ) from None
    found = _physical_devices(vulkan)
    if not found:
        raise AcceleratorError(
            "the Vulkan loader finds no GPU on this machine",
            hint="install the GPU's Vulkan driver (on Debian mesa-vulkan-drivers, or NVIDIA's), or use --engine native",
        )
    return min(found, key=lambda pair: pair[0])[1]


def cuda_adapter() -> Adapter:
    """The first GPU of CUDA.

    Raises:
        AcceleratorError: CUDA's driver is missing, or it finds no GPU.
    """
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        raise AcceleratorError(
            f"CUDA's driver is missing: {error}", hint="install NVIDIA's driver, or use --engine native"
        ) from None
    name, version = ctypes.create_string_buffer(256), ctypes.c_int()
    status = cuda.cuInit(0) or cuda.cuDriverGetVersion(ctypes.byref(version)) or cuda.cuDeviceGetName(name, 256, 0)
    if status:
        raise AcceleratorError(f"CUDA finds no GPU on this machine (status {status})", hint="use --engine native")
    integrated = ctypes.c_int()
    known = cuda.cuDeviceGetAttribute(ctypes.byref(integrated), _CUDA_INTEGRATED, 0) == 0
    driver = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    return Adapter(name.value.decode(errors="replace"), driver, shares_memory=bool(integrated.value) if known else None)


class _ApplicationInfo(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32), ("next", ctypes.c_void_p), ("name", ctypes.c_char_p), ("version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p), ("engine_version", ctypes.c_uint32), ("api_version", ctypes.c_uint32),
    ]  # fmt: skip


class _InstanceInfo(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32), ("next", ctypes.c_void_p), ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_ApplicationInfo)), ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p), ("extension_count", ctypes.c_uint32), ("extensions", ctypes.c_void_p),
    ]  # fmt: skip


class _Properties(ctypes.Structure):  # the beginning of VkPhysicalDeviceProperties, which is shorter than 2 KB
    _fields_ = [
        ("api_version", ctypes.c_uint32), ("driver_version", ctypes.c_uint32), ("vendor", ctypes.c_uint32),
        ("device", ctypes.c_uint32), ("kind", ctypes.c_uint32), ("name", ctypes.c_char * 256),
        ("rest", ctypes.c_uint8 * 2048),
    ]  # fmt: skip


class _Features(ctypes.Structure):  # each of the structures of a chain begins so; flags follow
    _fields_ = [("type", ctypes.c_uint32), ("next", ctypes.c_void_p), ("flags", ctypes.c_uint32 * 64)]


def _physical_devices(vulkan: ctypes.CDLL) -> list[tuple[int, Adapter]]:
    """Vulkan's devices, each with a number that is smaller the more Dawn prefers it."""
    instance = ctypes.c_void_p()
    application = _ApplicationInfo(_APPLICATION_INFO, None, b"edgekit", 0, b"", 0, _VERSION_1_1)
    info = _InstanceInfo(_INSTANCE_INFO, None, 0, ctypes.pointer(application), 0, None, 0, None)
    if vulkan.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance)):
        return []
    try:
        count = ctypes.c_uint32()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        devices = (ctypes.c_void_p * count.value)()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
        return [_adapter(vulkan, ctypes.c_void_p(device)) for device in devices[: count.value]]
    finally:
        vulkan.vkDestroyInstance(instance, None)


def _adapter(vulkan: ctypes.CDLL, device: ctypes.c_void_p) -> tuple[int, Adapter]:
    properties = _Properties()
    vulkan.vkGetPhysicalDeviceProperties(device, ctypes.byref(properties))
    storage = _Features(_STORAGE16_FEATURES, None)
    float16 = _Features(_FLOAT16_FEATURES, ctypes.addressof(storage))
    features = _Features(_FEATURES, ctypes.addressof(float16))
    vulkan.vkGetPhysicalDeviceFeatures2(device, ctypes.byref(features))
    version = properties.driver_version
    shifts = ((22, 0x3FF), (14, 0xFF), (6, 0xFF)) if properties.vendor == _NVIDIA else (
        (22, 0x3FF), (12, 0x3FF), (0, 0xFFF)
    )  # fmt: skip
    driver = ".".join(str(version >> shift & mask) for shift, mask in shifts)
    name = properties.name.decode(errors="replace")
    # shaderFloat16 and storageBuffer16BitAccess are the first flags of their structures.
    computes_float16 = bool(float16.flags[0] and storage.flags[0])
    adapter = Adapter(name, driver, computes_float16, _SHARES_MEMORY.get(properties.kind))
    return _PREFERENCE.get(properties.kind, 9), adapter
