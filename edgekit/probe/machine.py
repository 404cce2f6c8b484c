"""This host as a measured device profile: what the system says of it, and what its memory and its kernels really do.

Storage is not measured: what was just written is read back from some cache, and what was not written here is not ours
to read. Unknown stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..devices import DeviceProfile, Sourced, load_device
from ..devices.profile import Bandwidth, KernelPeak
from ..host import physical_cores
from .limits import kernels, measure_bandwidth, measure_kernel

HOST = "cpu"  # the library's device whose numbers are asked of the system
# Everything is measured in turn, three times; the best counts. A second of other work then disturbs one turn only.
ROUNDS = 3


def probe_machine(
    name: str = HOST, progress: Callable[[str, float, float], None] = lambda phase, done, total: None
) -> DeviceProfile:
    """Measure this machine: memory and each kernel, with one thread and with all, 0.4 s each in each of ``ROUNDS``.

    Args:
        name: The profile's name.
        progress: Called with a phase's name, measurements done and measurements in all.

    Raises:
        DeviceProfileError: The system hides its memory.
        ProbeError: Something could not be measured.
        NativeLibraryError: The native library is missing.
    """
    host = load_device(HOST)
    threads = physical_cores()
    counts = (1,) if threads == 1 else (1, threads)
    usable = [kernel for kernel, runs in kernels().items() if runs]
    jobs = [(kernel, count) for kernel in (None, *usable) for count in counts]  # None: memory
    best = dict.fromkeys(jobs, 0.0)
    for step, (kernel, count) in enumerate(jobs * ROUNDS):
        progress("measuring", step, len(jobs) * ROUNDS)
        rate = measure_bandwidth(count) if kernel is None else measure_kernel(kernel, count)
        best[kernel, count] = max(best[kernel, count], rate)
    progress("measuring", 1, 1)

    def figures(kernel: str | None) -> tuple[Sourced[float], Sourced[float]]:
        """With all cores, which may leave it to one where more are no faster, and with one."""
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
    """A rate per second in 10^9, to four digits: the next time the last of them differs."""
    source = f"edgekit probe: {_counted(threads, 'thread')}, best of {6 * ROUNDS} windows of 50 ms"
    return Sourced(float(f"{rate / 1e9:.4g}"), source)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
