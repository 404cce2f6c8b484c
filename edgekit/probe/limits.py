"""Measures the machine's limits with the native library, and counts the least work of a model's tokens.

``shares.py`` combines the two. An engine that reads each weight once per token cannot exceed 100 % of the bandwidth.
One that multiplies with the kernel's instructions cannot exceed 100 % of its peak.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

from .. import native
from ..errors import ProbeError, UnknownNameError
from .kernels import chosen_kernels


@dataclass(frozen=True)
class Limits:
    """The limits of this machine.

    Attributes:
        bandwidth_gb_s: Sequential reads of main memory, GB/s (10^9).
        kernel_gmac_s: Multiply-adds of the kernel on registers, 10^9 per second.
        kernel: The kernel's name.
        threads: Threads they were measured with.
    """

    bandwidth_gb_s: float
    kernel_gmac_s: float
    kernel: str
    threads: int

    def better(self, other: Limits | None) -> Limits:
        """The greater of each rate, because other programs can only slow a machine down."""
        if other is None:
            return self
        bandwidth = max(self.bandwidth_gb_s, other.bandwidth_gb_s)
        return Limits(bandwidth, max(self.kernel_gmac_s, other.kernel_gmac_s), self.kernel, self.threads)


@dataclass(frozen=True)
class Work:
    """The least work of a model's tokens, whatever runs them; ``native/src/work.h`` defines what counts.

    Attributes:
        token_bytes: Bytes of weights read to generate one token.
        prompt_multiply_adds: Prompt length and its multiply-adds with weights.
    """

    token_bytes: int
    prompt_multiply_adds: dict[int, int]


def kernels() -> dict[str, bool]:
    """Every kernel of the library, the newest first, and whether it runs on this machine."""
    found: dict[str, bool] = {}
    runs = ctypes.c_int()
    while name := native.library().ek_kernel_at(len(found), ctypes.byref(runs)):
        found[name.decode()] = bool(runs.value)
    return found


def measure_bandwidth(threads: int, buffer_bytes: int = 0) -> float:
    """Bytes per second that threads read from main memory: the best of several windows, 0.4 s in total.

    Args:
        threads: 1 to 1024.
        buffer_bytes: Size of the buffer they read; 0 for one far larger than the caches, at most a quarter of the
            available memory.

    Raises:
        ProbeError: There is not enough memory, or a number is out of range.
    """
    rate = ctypes.c_double()
    status = native.library().ek_measure_bandwidth(_counted(threads), buffer_bytes, ctypes.byref(rate))
    _check(status, "memory bandwidth")
    return rate.value


def measure_kernel(name: str, threads: int) -> float:
    """Multiply-adds per second of a kernel's innermost instructions: the best of several windows, 0.4 s in total.

    Args:
        name: One of :func:`kernels`.
        threads: 1 to 1024.

    Raises:
        UnknownNameError: There is no such kernel; names those there are.
        ProbeError: The kernel does not run on this machine, or ``threads`` is out of range.
    """
    known = kernels()
    if name not in known:
        raise UnknownNameError(f"there is no kernel {name!r}; this build has {', '.join(known)}")
    rate = ctypes.c_double()
    status = native.library().ek_measure_kernel(name.encode(), _counted(threads), ctypes.byref(rate))
    _check(status, f"the {name} kernel")
    return rate.value


def measure_limits(threads: int) -> Limits:
    """Measure the bandwidth and the peak of the kernel that the native engine uses for prefill.

    Raises:
        ProbeError: There is not enough memory, or ``EDGEKIT_ISA`` names a kernel that does not run on this machine.
    """
    kernel = chosen_kernels()["prefill"].kernel
    bandwidth = measure_bandwidth(threads)
    return Limits(bandwidth / 1e9, measure_kernel(kernel, threads) / 1e9, kernel, threads)


def model_work(folder: Path, prompt_tokens: list[int]) -> Work:
    """Count the work of an artifact's tokens. This maps the weights but does not read them.

    Args:
        folder: The artifact.
        prompt_tokens: Prompt lengths.

    Raises:
        ProbeError: The artifact is not quantized or is damaged.
    """
    library, model = native.library(), ctypes.c_void_p()
    _check(library.ek_model_open(os.fsencode(folder), ctypes.byref(model)), "the work of a token")
    try:
        multiply_adds = {n: int(library.ek_model_prompt_multiply_adds(model, n)) for n in prompt_tokens}
        return Work(int(library.ek_model_token_bytes(model)), multiply_adds)
    finally:
        library.ek_model_close(model)


def _counted(threads: int) -> int:
    if threads < 1:  # to the library 0 means its default, which would hide a caller's mistake
        raise ProbeError(f"{threads} threads were requested; at least 1 is needed")
    return threads


def _check(status: int, what: str) -> None:
    if status != native.OK:
        raise ProbeError(f"measuring {what}: {native.last_error()}")
