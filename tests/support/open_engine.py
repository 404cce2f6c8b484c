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
