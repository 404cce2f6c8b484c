"""Opens artifacts with a named engine, and makes prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact.manifest import read_manifest
from edgekit.runtime.engine import EngineOptions, open_engine


def engine(folder: Path, name: str, **options: Any) -> Any:
    """Open an artifact by an engine's name; options are those of ``EngineOptions``."""
    return open_engine(folder, read_manifest(folder), EngineOptions(**options), name)


def prompt(count: int, vocab: int = 250) -> list[int]:
    """Random token ids, the same in every run."""
    return [int(i) for i in np.random.default_rng(3).integers(0, vocab, count)]


def order_tolerance(kernel: str) -> float:
    """How far logits of the same sums in another order may be apart, of the largest logit, by the kernel's name.

    A sum in another order can move an activation across a rounding boundary by one step of 127, which the layers
    behind pass on. Seen: 7e-7 without, 0.012 with it, on every instruction set, scalar too. It is the rounding and no
    mistake in the sums: a tiny model in numpy, float64 but for activations rounded to int8, differs from itself by
    0.011, 0.014 and 0.021 when its activations carry a noise of 1e-8, 1e-7 and 1e-6 before it. Attention in bfloat16
    carries more; seen: 0.024.
    """
    return 0.03 if "bf16" in kernel or "amx" in kernel else 0.02
