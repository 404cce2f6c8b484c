"""Compares a receipt with a device's profile: which figures does the machine contradict, and what would be right?

``smoke.py`` and ``push.py`` list the contradictions in the receipt; ``edgekit devices --from-receipt`` writes the
profile with the measured figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from ..devices import DeviceProfile, Sourced
from ..devices.profile import Bytes, Cluster, Memory, Thermal
from ..errors import ArtifactError
from ..planning.core_draw import READ_SHARE
from ..planning.engines import engine_names, find_engine
from ..planning.hardware import CPU, hardware_of
from ..units import format_bytes
from .receipt import Contradiction, Receipt

# Makers write 8 GB for 8 GiB, and the system keeps some memory for firmware and GPU: 7.4 of 8 GiB on an Orin Nano.
_TOTAL_RANGE = (0.85, 1.08)
_USABLE_SHARE = 0.9  # other programs come and go
_CLOCK_TOLERANCE = 0.05  # firmware rounds clocks, and power modes move them by more
_DRAW_TOLERANCE = 0.05  # of the bandwidth that a corrected profile is planned with
_SHARE_TOLERANCE = 0.1  # a minute is shorter than the profile's minutes of work, and thirds vary by some percent

# What every processor of an architecture has; without it, an emulator shows the features of the machine it runs on.
_FAMILY = {"aarch64": "asimd", "arm64": "asimd", "x86_64": "avx2"}

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Finding:
    """A contradiction, and the function that puts the measured figure into a profile."""

    contradiction: Contradiction
    correct: Callable[[DeviceProfile, str], DeviceProfile]


def find_contradictions(receipt: Receipt, profile: DeviceProfile) -> tuple[Contradiction, ...]:
    """The figures of the profile that the receipt contradicts.

    Args:
        receipt: A receipt of a machine that is said to be the device.
        profile: The device's.
    """
    return tuple(finding.contradiction for finding in _findings(receipt, profile))


def corrected_profile(receipt: Receipt, profile: DeviceProfile) -> DeviceProfile:
    """The profile with measured figures in place of those that the receipt contradicts.

    Args:
        receipt: As in :func:`find_contradictions`.
        profile: The device's; the others of its figures are kept.

    Raises:
        ArtifactError: The receipt has a figure that no device has, such as a negative clock.

    Returns:
        A profile in which each corrected figure names the receipt as its source.
    """
    where = receipt.host.board or receipt.host.processor or receipt.host.machine or "an unnamed machine"
    source = f"{receipt.program} smoke test of {receipt.artifact} on {where}, {receipt.created}"
    for finding in _findings(receipt, profile):
        try:
            profile = finding.correct(profile, source)
        except ValueError as error:
            name = finding.contradiction.figure
            raise ArtifactError(f"the receipt's {name} cannot stand in a device's profile: {error}") from None
    return replace(profile, aliases=())  # an alias names one device, which stays the original


def _findings(receipt: Receipt, profile: DeviceProfile) -> list[_Finding]:
    checks = (_total, _usable, _cores, _isa, _clock, _decode, _throttling)
    return [finding for check in checks if (finding := check(receipt, profile)) is not None]


def _total(receipt: Receipt, profile: DeviceProfile) -> _Finding | None:
    found, stated = receipt.host.memory_bytes, profile.memory.total.value
    low, high = _TOTAL_RANGE
    if found is None or low * stated <= found <= high * stated:
        return None

    def correct(profile: DeviceProfile, source: str) -> DeviceProfile:
        memory = profile.memory
        total = Sourced(Bytes(found), source)
        usable = memory.usable if memory.usable.value <= found else total
        headless = memory.usable_headless
        if headless is not None and not usable.value <= headless.value <= found:
            headless = None
        return _with_memory(profile, replace(memory, total=total, usable=usable, usable_headless=headless), source)

    words = "The system reports another amount of memory." + _lowered(profile, found)
    return _finding("memory.total", format_bytes(stated), format_bytes(found), words, correct)


def _usable(receipt: Receipt, profile: DeviceProfile) -> _Finding | None:
    found, stated = receipt.host.available_bytes, profile.memory.usable.value
    if found is None or found >= _USABLE_SHARE * stated:
        return None

    def correct(profile: DeviceProfile, source: str) -> DeviceProfile:
        usable = Sourced(Bytes(min(found, profile.memory.total.value)), source, "what was free after the test")
        return _with_memory(profile, replace(profile.memory, usable=usable), source)

    words = "Less memory was free after the test than the profile calls usable; other programs may have taken it."
    words += _lowered(profile, found)
    return _finding("memory.usable", format_bytes(stated), format_bytes(found), words, correct)


def _with_memory(profile: DeviceProfile, memory: Memory, source: str) -> DeviceProfile:
    """The profile with other figures of its memory. Its budget, which must be usable, is lowered where it is more."""
    budget, usable = profile.budget, memory.usable.value
    if budget.memory is not None and budget.memory.value > usable:
        note = f"lowered from {format_bytes(budget.memory.value)} to what is usable"
        budget = replace(budget, memory=Sourced(usable, source, note))
    return replace(profile, memory=memory, budget=budget)


def _lowered(profile: DeviceProfile, usable: int) -> str:
    """A sentence if the profile's budget is more than what is usable."""
    budget = profile.budget.memory
    return " budget.memory, which is more, is lowered to it." if budget is not None and budget.value > usable else ""


def _cores(receipt: Receipt, profile: DeviceProfile) -> _Finding | None:
    found, stated = receipt.host.cores, profile.cpu.cores
    if found is None or stated is None or found == stated.value:
        return None
    if found < stated.value and len(profile.cpu.clusters) > 1:  # the receipt counts fast cores only
        return None

    def correct(profile: DeviceProfile, source: str) -> DeviceProfile:
        cores = Sourced(found, source)
        clusters = tuple(replace(cluster, cores=cores) for cluster in profile.cpu.clusters[:1])
        return replace(profile, cpu=replace(profile.cpu, cores=cores, clusters=clusters))

    words = "The process may use another number of cores; a power mode can turn some off."
    return _finding("cpu.cores", str(stated.value), str(found), words, correct)


def _isa(receipt: Receipt, profile: DeviceProfile) -> _Finding | None:
    found, stated = receipt.host.isa, profile.cpu.isa.value
    missing = [flag for flag in stated if flag not in found]
    if not missing or _FAMILY.get(receipt.host.machine or "", "") not in found:
        return None

    def correct(profile: DeviceProfile, source: str) -> DeviceProfile:
        return replace(profile, cpu=replace(profile.cpu, isa=Sourced(found, source)))

    words = f"The processor lacks {', '.join(missing)}, so slower kernels run."
    return _finding("cpu.isa", " ".join(stated), " ".join(found), words, correct)


def _clock(receipt: Receipt, profile: DeviceProfile) -> _Finding | None:
    highest = max((clock.max_mhz for clock in receipt.host.clocks if clock.max_mhz), default=None)
    fastest = profile.cpu.clusters[0] if profile.cpu.clusters else None
    if highest is None or fastest is None or fastest.clock_ghz is None:
        return None
    found, stated = highest / 1000, fastest.clock_ghz.value
    if abs(found / stated - 1) <= _CLOCK_TOLERANCE:
        return None

    def correct(profile: DeviceProfile, source: str) -> DeviceProfile:
        clock = Sourced(round(found, 3), source)
        return _with_fastest(profile, lambda cluster: replace(cluster, clock_ghz=clock))

    words = "The fastest cores have another highest clock; a power mode can limit it."
    name = f"cpu.clusters[{fastest.name}].clock_ghz"
    return _finding(name, f"{stated:g} GHz", f"{found:.3g} GHz", words, correct)


def _decode(receipt: Receipt, profile: DeviceProfile) -> _Finding | None:
    """A decode speed outside the plan's interval: decode waits for memory, so the plan's bandwidth is wrong.

    There is no finding where no figure of the profile would change the plan of this engine, and no other engine's: for
    a GPU, or a processor that is faster than its memory.
    """
    predicted, speed = receipt.predicted, receipt.decode_tok_s
    if predicted is None or speed is None or receipt.as_predicted or predicted.device != profile.name:
        return None
    if predicted.mid <= 0:
        raise ArtifactError(f"the receipt's predicted.mid is {predicted.mid:g} tok/s; it must be above 0")
    if speed <= 0 or receipt.engine not in engine_names():
        return None
    engine, factor = find_engine(receipt.engine), speed / predicted.mid
    planned = hardware_of(profile, engine)
    if planned.processor != CPU or planned.bandwidth_gb_s is None:
        return None
    wanted = planned.bandwidth_gb_s * factor
    probed = bool(profile.cpu.kernels) and profile.bandwidth.sustained is not None

    def correct(profile: DeviceProfile, source: str) -> DeviceProfile:
        note = f"decode ran at {factor:.3g} times the planned speed: {speed:.3g} instead of {predicted.mid:.3g} tok/s"
        return _with_sustained(profile, wanted, source, note) if probed else _with_draw(profile, wanted, source, note)

    try:
        changed = hardware_of(correct(profile, "receipt"), engine)
    except ValueError:  # no device has this figure
        return None
    if planned.speed is not None and changed.speed == planned.speed:
        return None  # the engine itself was measured there
    if abs(_some(changed.bandwidth_gb_s) / wanted - 1) > _DRAW_TOLERANCE:
        return None
    if probed:
        name, was, now = "bandwidth.sustained", planned.bandwidth_gb_s, wanted
    else:
        name, now = f"cpu.clusters[{profile.cpu.clusters[0].name}].draw_gb_s", wanted * READ_SHARE
        was = planned.bandwidth_gb_s * READ_SHARE
        share = _shares(profile)[0]
        was, now = was * share, now * share
    words = f"Decode runs at {speed:.3g} tok/s, and the plan expects {predicted.low:.3g} to {predicted.high:.3g}."
    return _finding(name, f"{_digits(was):g} GB/s", f"{_digits(now):g} GB/s", words, correct)


def _with_sustained(profile: DeviceProfile, gb_s: float, source: str, note: str) -> DeviceProfile:
    """A probed profile whose memory delivers this much."""
    bandwidth = profile.bandwidth
    value = min(_digits(gb_s), bandwidth.theoretical.value if bandwidth.theoretical else math.inf)
    one = bandwidth.one_core if bandwidth.one_core and bandwidth.one_core.value <= value else None
    return replace(profile, bandwidth=replace(bandwidth, sustained=Sourced(value, source, note), one_core=one))


def _with_draw(profile: DeviceProfile, gb_s: float, source: str, note: str) -> DeviceProfile:
    """A profile whose cores read as much as from a memory with this specification."""
    shares = iter(_shares(profile))
    return _with_clusters(
        profile,
        lambda cluster: replace(cluster, draw_gb_s=Sourced(_digits(gb_s * READ_SHARE * next(shares)), source, note)),
    )


def _shares(profile: DeviceProfile) -> list[float]:
    """The share of each cluster in what the processor reads: as the profile states it, otherwise by cores."""
    clusters = profile.cpu.clusters
    stated = [cluster.draw_gb_s.value for cluster in clusters if cluster.draw_gb_s]
    weights = stated if len(stated) == len(clusters) else [float(cluster.cores.value) for cluster in clusters]
    return [weight / sum(weights) for weight in weights]


def _throttling(receipt: Receipt, profile: DeviceProfile) -> _Finding | None:
    sustained, stated = receipt.sustained, profile.thermal.sustained_share.value if profile.thermal else 1.0
    if sustained is None or sustained.first_tok_s <= 0:  # no token was measured
        return None
    if sustained.last_tok_s / sustained.first_tok_s >= stated - _SHARE_TOLERANCE:
        return None
    found = _digits(sustained.last_tok_s / sustained.first_tok_s)

    def correct(profile: DeviceProfile, source: str) -> DeviceProfile:
        note = f"the last against the first third of {sustained.seconds:.0f} s"
        return replace(profile, thermal=Thermal(Sourced(found, source, note)))

    words = f"The last third of {sustained.seconds:.0f} s of decode was slower than the first."
    shown = f"{stated:g}" if profile.thermal else "unknown, so 1"
    return _finding("thermal.sustained_share", shown, f"{found:g}", words, correct)


def _with_fastest(profile: DeviceProfile, change: Callable[[Cluster], Cluster]) -> DeviceProfile:
    first, *others = profile.cpu.clusters
    return replace(profile, cpu=replace(profile.cpu, clusters=(change(first), *others)))


def _with_clusters(profile: DeviceProfile, change: Callable[[Cluster], Cluster]) -> DeviceProfile:
    return replace(profile, cpu=replace(profile.cpu, clusters=tuple(map(change, profile.cpu.clusters))))


def _finding(
    figure: str, stated: str, found: str, detail: str, correct: Callable[[DeviceProfile, str], DeviceProfile]
) -> _Finding:
    return _Finding(Contradiction(figure, stated, found, detail), correct)


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def _some(value: _T | None) -> _T:
    assert value is not None  # noqa: S101  # the caller has seen to it
    return value
