"""The part of a device an engine runs on: the kind of processor, its bandwidth and its arithmetic, from the profile."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..devices.profile import Accelerator, Cluster, Cpu, DeviceProfile, PowerMode
from ..errors import UnknownNameError, nearest
from .core_draw import draw_gb_s, drawn_bandwidth
from .engine_speed import EngineSpeed, measured_speed
from .planned_engine import PlannedEngine

# 8-bit multiply-adds per core and cycle with each extension, the strongest first. Arm and x86 have two vector units:
# of 128 bits with i8mm 2 x 32, with dotprod 2 x 16, without 2 x 8; of 256 bits with VNNI 2 x 32, with AVX2's
# vpmaddubsw 2 x 32 (edgekit probe: 163 of 2.55 GHz x 64 on Zen 3); of 512 bits with VNNI 2 x 64. An AMX unit does 1024.
# The share of these that engines reach is fitted.
MULTIPLY_ADDS_PER_CYCLE = {
    "amx_int8": 1024,
    "avx512_vnni": 128,
    "avx_vnni": 64,
    "avx2": 64,
    "i8mm": 64,
    "asimddp": 32,
    "asimd": 16,
}
# Clusters clocked below this share of the fastest one have small cores, whose vector units are half as wide
# (Cortex-A510 and A520, Gracemont, Apple's efficiency cores). AMD's dense cores (Zen 5c) have lower clocks only.
SMALL_CORE_CLOCK = 0.8
_DENSE_CORE = re.compile(r"\bZen\b")
CPU = "cpu"


@dataclass(frozen=True)
class Hardware:
    """Where an engine runs on a device. None means unknown.

    Attributes:
        processor: The kind of processor; see :class:`~edgekit.planning.planned_engine.PlannedEngine`.
        fitted_as: Its class in ``fitted.py``, or empty.
        bandwidth_gb_s: Memory bandwidth: measured by ``edgekit probe``, otherwise from the specification, of which a
            processor's cores may draw less (``core_draw.py``).
        arithmetic_gmac_s: 8-bit multiply-adds, 10^9 per second: measured, otherwise from clocks and extensions. For an
            engine that uses an accelerator's vector units, those in float32.
        speed: The engine's speed, where ``edgekit probe`` measured both or the engine itself.
        sustained_share: The share of the speed that remains when the device is hot.
        storage: Name and MB/s of each storage whose speed is known.
        cores: Number of threads the engine uses.
    """

    processor: str
    fitted_as: str
    bandwidth_gb_s: float | None
    arithmetic_gmac_s: float | None
    sustained_share: float | None
    storage: tuple[tuple[str, float], ...]
    cores: int
    speed: EngineSpeed | None = None


def find_power_mode(device: DeviceProfile, name: str | None) -> PowerMode | None:
    """The device's power mode of this name; None for None.

    Raises:
        UnknownNameError: The device has no such mode; names the nearest.
    """
    if name is None:
        return None
    modes = {mode.name: mode for mode in device.power_modes}
    if not modes:
        raise UnknownNameError(f"{device.name} has no power modes in its profile; {name!r} was requested")
    if name not in modes:
        raise UnknownNameError(f"{device.name} has no power mode {name!r}; {nearest(name, modes)}")
    return modes[name]


def hardware_of(device: DeviceProfile, engine: PlannedEngine, power_mode: str | None = None) -> Hardware:
    """The hardware that an engine runs on.

    Raises:
        UnknownNameError: The device has no such power mode.
    """
    mode = _bounded(device, find_power_mode(device, power_mode))
    kernels = device.cpu.kernels
    bandwidth, arithmetic, measured = device.bandwidth.theoretical, None, False
    processor = engine.processor(device) if device.accelerator else CPU
    if device.accelerator is not None and processor != CPU:
        fitted_as = device.accelerator.fitted_as
        arithmetic = _accelerator_gmac_s(device.accelerator, mode, engine.uses_vector_units)
    else:
        fitted_as = device.cpu.fitted_as
        arithmetic = kernels[0].gmac_s.value if kernels else _cpu_gmac_s(device.cpu)
        measured = bool(kernels) and device.bandwidth.sustained is not None
    if measured or bandwidth is None:
        bandwidth = device.bandwidth.sustained
    if mode is not None and mode.bandwidth_gb_s is not None:
        bandwidth = mode.bandwidth_gb_s
    if processor == CPU and device.describes_card:
        bandwidth = None
    gb_s = bandwidth.value if bandwidth else None
    if gb_s is not None and processor == CPU and not measured:
        gb_s = drawn_bandwidth(gb_s, draw_gb_s(device.cpu))
    speed = None
    if measured and gb_s is not None and arithmetic is not None:
        rates = next((rates for rates in device.cpu.engines if rates.name == engine.name), None)
        if rates is not None:
            speed = measured_speed(rates)
        elif engine.shares is not None:
            speed = engine.shares.speed(gb_s, arithmetic)
    stores = ((store.name, store.read_mb_s.value) for store in device.storage if store.read_mb_s is not None)
    return Hardware(
        processor=processor,
        fitted_as=fitted_as,
        bandwidth_gb_s=gb_s,
        arithmetic_gmac_s=arithmetic,
        sustained_share=device.thermal.sustained_share.value if device.thermal else None,
        storage=tuple(stores),
        cores=device.cpu.cores.value if device.cpu.cores else 1,
        speed=speed,
    )


def power_mode_note(device: DeviceProfile, processor: str, power_mode: str | None) -> str:
    """What to say of a plan whose power mode may be slower than planned; empty if the profile has its figures.

    Args:
        device: The device.
        processor: The kind of processor that the engine runs on.
        power_mode: The name of the mode; None for full power.
    """
    mode = find_power_mode(device, power_mode)
    if mode is None or not _higher(device, mode):
        return ""
    if processor != CPU and mode.bandwidth_gb_s is not None and mode.int8_tops_dense is not None:
        return ""
    return f"the profile of {device.name} does not say how slow the power mode {mode.name} is; speeds are upper bounds"


def _higher(device: DeviceProfile, mode: PowerMode) -> list[PowerMode]:
    """The modes with more power than this one; a mode without a limit has the most."""
    if mode.watts is None:
        return []
    return [each for each in device.power_modes if each.watts is None or each.watts.value > mode.watts.value]


def _bounded(device: DeviceProfile, mode: PowerMode | None) -> PowerMode | None:
    """The mode with the figures of higher modes in place of its unknown ones: it is at most as fast as they are."""
    if mode is None:
        return None
    for name in ("bandwidth_gb_s", "int8_tops_dense"):
        known = [getattr(each, name) for each in _higher(device, mode) if getattr(each, name) is not None]
        if getattr(mode, name) is None and known:
            mode = replace(mode, **{name: min(known, key=lambda figure: figure.value)})
    return mode


def accelerator_bytes(device: DeviceProfile, engine: PlannedEngine) -> int | None:
    """Memory of CUDA's libraries, 0 where unknown; None when the engine runs on the processor."""
    if engine.processor(device) == CPU:
        return None
    runtime = device.accelerator.runtime if device.accelerator else None
    return runtime.value if runtime else 0


def _accelerator_gmac_s(accelerator: Accelerator, mode: PowerMode | None, by_vector_units: bool) -> float | None:
    """A multiply-add is two operations. A power mode slows vector units and matrix units alike."""
    full, slowed = accelerator.int8_tops_dense, mode and mode.int8_tops_dense
    if not by_vector_units:
        tops = slowed or full
        return tops.value * 1000 / 2 if tops else None
    tflops = accelerator.float32_tflops
    share = slowed.value / full.value if slowed and full else 1.0
    return tflops.value * 1000 / 2 * share if tflops else None


def _cpu_gmac_s(cpu: Cpu) -> float | None:
    """From clocks and extensions; None where a clock is unknown."""
    width = next((width for flag, width in MULTIPLY_ADDS_PER_CYCLE.items() if flag in cpu.isa.value), None)
    clocks = [cluster.clock_ghz.value for cluster in cpu.clusters if cluster.clock_ghz is not None]
    if width is None or not clocks or len(clocks) < len(cpu.clusters):
        return None

    def share(cluster: Cluster, clock: float) -> float:
        is_small = clock < SMALL_CORE_CLOCK * max(clocks) and not _DENSE_CORE.search(cluster.name)
        return 0.5 if is_small else 1.0

    pairs = zip(cpu.clusters, clocks, strict=True)
    return width * sum(cluster.cores.value * clock * share(cluster, clock) for cluster, clock in pairs)
