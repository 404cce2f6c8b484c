"""Helpers for the native engine's tests: small quantized artifacts in every format, and functions to open them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build
from edgekit.runtime.engine import EngineOptions, open_engine
from edgekit.scheme import QuantizationConfig, QuantizationScheme

FORMATS = {
    "int4 block 32": QuantizationConfig(*[QuantizationScheme(4, 32, False)] * 3),
    "int4 block 128": QuantizationConfig(*[QuantizationScheme(4, 128, True)] * 3),
    "int8 head": QuantizationConfig(
        QuantizationScheme(4, 64, False), QuantizationScheme(4, 32, True), QuantizationScheme(8, 64, False)
    ),
    "int8": QuantizationConfig(*[QuantizationScheme(8, 32, True)] * 3),
}


def artifact(folder: Path, family: str, name: str, device: str = "cpu", **changes: Any) -> Path:
    """Build a tiny model of a family in one of :data:`FORMATS`. ``changes`` override keys of its config.json."""
    changes = {"max_position_embeddings": 700, **changes}
    checkpoint = write_checkpoint(folder / "checkpoint", family, **changes)
    return build(None, device, checkpoint=checkpoint, out=folder / "out", quantization=FORMATS[name]).artifact


def engine(folder: Path, name: str, **options: Any) -> Any:
    """Open an artifact with an engine. The options are those of ``EngineOptions``."""
    return open_engine(folder, read_manifest(folder), EngineOptions(**options), name)


def prompt(count: int, vocab: int = 250) -> list[int]:
    """Random ids, the same in every call."""
    return [int(i) for i in np.random.default_rng(3).integers(0, vocab, count)]
