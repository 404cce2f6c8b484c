"""How many threads the arithmetic should use. The rule and its reasons stand in ``native/src/topology.h``."""

from __future__ import annotations

from .. import native


def physical_cores() -> int:
    """Physical cores to compute on: the fast ones of those this process's CPU affinity and control groups allow.

    Returns:
        At least 1.

    Raises:
        NativeLibraryError: The library is missing.
    """
    return int(native.library().ek_default_threads())
