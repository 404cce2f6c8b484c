"""What this machine can do at most, measured by the native library, and the least work a model's tokens take.

``shares.py`` puts the two together: an engine that reads each weight once per token cannot beat 100 % of the bandwidth,
and one that multiplies in the kernel's instructions not 100 % of the peak.
"""

from __future__ import annotations

import ctypes
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import native
from ..errors import ProbeError, UnknownNameError


@dataclass(frozen=True)
class Limits:
    """Of this machine, with ``threads`` threads.

    Attributes:
        bandwidth_gb_s: Sequential reading of main memory, GB/s (10^9).
        kernel_gmac_s: Multiply-adds of ``kernel`` on registers, 10^9 per second.
    """

    bandwidth_gb_s: float
    kernel_gmac_s: float
    kernel: str
    threads: int

    def better(self, other: Limits | None) -> Limits:
        """The greater of each rate: other programs only take away from what a machine can do."""
        if other is None:
            return self
        bandwidth = max(self.bandwidth_gb_s, other.bandwidth_gb_s)
        return Limits(bandwidth, max(self.kernel_gmac_s, other.kernel_gmac_s), self.kernel, self.threads)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Work:
    """The least a model's tokens take, whatever runs them; ``src/work.h`` says what counts.

    Attributes:
        token_bytes: Weights read to generate one token, bytes.
        prompt_multiply_adds: Multiply-adds with weights per prompt length asked for.
    """

    token_bytes: int
    prompt_multiply_adds: dict[int, int]


def kernels() -> dict[str, bool]:
    """Every kernel of the library, the best first, and whether it runs here."""
    found: dict[str, bool] = {}
    runs = ctypes.c_int()
    while name := native.library().ek_kernel_at(len(found), ctypes.byref(runs)):
        found[name.decode()] = bool(runs.value)
    return found


def measure_bandwidth(threads: int, buffer_bytes: int = 0) -> float:
    """Bytes per second that ``threads`` threads read from main memory: the best of several windows, 0.4 s in all.

    Args:
        threads: 1 to 1024.
        buffer_bytes: What they read; 0 for far more than the caches hold, at most a quarter of the available memory.

    Raises:
        ProbeError: Not enough memory, or a number out of range.
    """
    rate = ctypes.c_double()
    _check(
        native.library().ek_measure_bandwidth(_counted(threads), buffer_bytes, ctypes.byref(rate)), "memory bandwidth"
    )
    return rate.value


def measure_kernel(name: str, threads: int) -> float:
    """Multiply-adds per second of a kernel's innermost instructions: the best of several windows, 0.4 s in all.

    Args:
        name: One of :func:`kernels`.
        threads: 1 to 1024.

    Raises:
        UnknownNameError: No such kernel; names those there are.
        ProbeError: It does not run here, or the number is out of range.
    """
    known = kernels()
    if name not in known:
        raise UnknownNameError(f"there is no kernel {name!r}; this build has {', '.join(known)}")
    rate = ctypes.c_double()
    _check(
        native.library().ek_measure_kernel(name.encode(), _counted(threads), ctypes.byref(rate)), f"the {name} kernel"
    )
    return rate.value


def measure_limits(threads: int) -> Limits:
    """Bandwidth, and the peak of the kernel the native engine takes here (``EDGEKIT_ISA`` is heard).

    Raises:
        ProbeError: There is not enough memory to measure, or EDGEKIT_ISA names what cannot run here.
    """
    name = native.library().ek_kernel_name()
    if name is None:
        raise ProbeError(f"measuring the kernel's peak: {native.last_error()}")
    kernel = name.decode()
    bandwidth = measure_bandwidth(threads)
    return Limits(bandwidth / 1e9, measure_kernel(kernel, threads) / 1e9, kernel, threads)


def model_work(folder: Path, prompt_tokens: list[int]) -> Work:
    """The work of an artifact's tokens. Weights are mapped, not read.

    Args:
        folder: The artifact.
        prompt_tokens: Prompt lengths.

    Raises:
        ProbeError: The artifact is not quantized, or damaged.
    """
    library, model = native.library(), ctypes.c_void_p()
    _check(library.ek_model_open(str(folder).encode(), ctypes.byref(model)), "the work of a token")
    try:
        multiply_adds = {n: int(library.ek_model_prompt_multiply_adds(model, n)) for n in prompt_tokens}
        return Work(int(library.ek_model_token_bytes(model)), multiply_adds)
    finally:
        library.ek_model_close(model)


def _counted(threads: int) -> int:
    if threads < 1:  # the library's 0 is "as many as are good", which would hide a caller's mistake
        raise ProbeError(f"{threads} threads were asked for; at least 1 is needed")
    return threads


def _check(status: int, what: str) -> None:
    if status != native.OK:
        raise ProbeError(f"measuring {what}: {native.last_error()}")
