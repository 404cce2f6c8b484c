"""This host as a measured device profile: what the system reports, and the measured speed of memory and kernels.

Storage is not measured, because a file that was just written is read back from a cache. Its speed stays unknown.
"""

from __future__ import annotations

from dataclasses import replace

from ..devices import DeviceProfile, Sourced, load_device
from ..devices.profile import Bandwidth, KernelPeak
from ..host import physical_cores
from ..progress import Progress, no_progress
from .kernels import chosen_kernels
from .limits import measure_bandwidth, measure_kernel

HOST = "cpu"  # the device that describes this host
# Everything is measured in turn, and the best of three counts, so that a second of other work disturbs one turn only.
ROUNDS = 3


def probe_machine(name: str = HOST, progress: Progress = no_progress) -> DeviceProfile:
    """Measure this machine: memory and each kernel, with one thread and with all, 0.4 s each, in ``ROUNDS`` rounds.

    Args:
        name: The profile's name.
        progress: Called with the phase's name, measurements done and measurements in total.

    Raises:
        DeviceProfileError: The system does not report its memory.
        ProbeError: A measurement failed, or ``EDGEKIT_ISA`` names a kernel that does not run on this machine.
        NativeLibraryError: The native library is missing.
    """
    host = load_device(HOST)
    threads = physical_cores()
    counts = (1,) if threads == 1 else (1, threads)
    prefill = chosen_kernels()["prefill"]
    # The first one's peak is that of the processor; plans and shares use it.
    usable = sorted(prefill.candidates, key=lambda kernel: kernel != prefill.kernel)
    jobs = [(kernel, count) for kernel in (None, *usable) for count in counts]  # None: memory
    best = dict.fromkeys(jobs, 0.0)
    for step, (kernel, count) in enumerate(jobs * ROUNDS):
        progress("measuring", step, len(jobs) * ROUNDS)
        rate = measure_bandwidth(count) if kernel is None else measure_kernel(kernel, count)
        best[kernel, count] = max(best[kernel, count], rate)
    progress("measuring", 1, 1)

    def figures(kernel: str | None) -> tuple[Sourced[float], Sourced[float]]:
        """The rate with the fastest number of threads, and with one thread."""
        most = max(counts, key=lambda count: best[kernel, count])
        return _gigas(best[kernel, most], most), _gigas(best[kernel, 1], 1)

    processor = host.cpu.description.value.partition(" of ")[2]
    return replace(
        host,
        name=name,
        title=f"{processor}, {_counted(threads, 'core')}",
        aliases=(),
        bandwidth=Bandwidth(None, *figures(None)),
        cpu=replace(host.cpu, kernels=tuple(KernelPeak(kernel, *figures(kernel)) for kernel in usable)),
    )


def _gigas(rate: float, threads: int) -> Sourced[float]:
    """A rate in 10^9 per second, rounded to four digits, the last of which differs between measurements."""
    source = f"edgekit probe: {_counted(threads, 'thread')}, fastest of {6 * ROUNDS} measurements of 50 ms"
    return Sourced(float(f"{rate / 1e9:.4g}"), source)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
