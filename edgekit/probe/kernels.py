"""Asks the native library which kernels its engine uses on this machine: each function's are chosen by measuring.

The library measures once for each processor model (``native/src/choice.h``) and keeps the result in the cache folder.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from .. import native
from ..errors import ProbeError

ROLES = ("decode", "few_rows", "prefill", "attention")  # indexed by ek_kernel_role


@dataclass(frozen=True)
class KernelChoice:
    """The kernel of one of the engine's functions.

    Attributes:
        kernel: The one that the engine uses.
        candidates: Those that this machine supports, the newest first.
        gmac_s: The measured speed of candidates with one thread, 10^9 multiply-adds/s. Empty if nothing was measured,
            because there is no other candidate or ``EDGEKIT_ISA`` is set.
    """

    kernel: str
    candidates: tuple[str, ...]
    gmac_s: dict[str, float]


def chosen_kernels() -> dict[str, KernelChoice]:
    """The engine's kernels by function, in the order of ``ROLES``. The first call may measure, for some 20 ms.

    Raises:
        ProbeError: ``EDGEKIT_ISA`` names a kernel that does not run on this machine.
        NativeLibraryError: The native library is missing.
    """
    if native.library().ek_kernel_name() is None:
        raise ProbeError(f"choosing kernels: {native.last_error()}")
    return {name: _choice(role) for role, name in enumerate(ROLES)}


def _choice(role: int) -> KernelChoice:
    is_used, rate = ctypes.c_int(), ctypes.c_double()
    used = ""
    candidates: list[str] = []
    gmac_s: dict[str, float] = {}
    while name := native.library().ek_kernel_candidate(
        role, len(candidates), ctypes.byref(is_used), ctypes.byref(rate)
    ):
        candidates.append(name.decode())
        if is_used.value:
            used = candidates[-1]
        if rate.value:
            gmac_s[candidates[-1]] = float(f"{rate.value / 1e9:.4g}")
    return KernelChoice(used, tuple(candidates), gmac_s)
