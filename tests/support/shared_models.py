"""Small models that many tests read. Each is built once in a test session, by whichever worker asks first."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_artifact import write_tiny_artifact
from tiny_checkpoint import write_checkpoint

from edgekit.build.pipeline import build
from edgekit.errors import SourceError
from edgekit.scheme import QuantizationConfig, QuantizationScheme

# The formats the engines are tested with: each width, small and large blocks, with and without zero points.
FORMATS = {
    "int4 block 32": QuantizationConfig(*[QuantizationScheme(4, 32, False)] * 3),
    "int4 block 128": QuantizationConfig(*[QuantizationScheme(4, 128, True)] * 3),
    "int8 head": QuantizationConfig(
        QuantizationScheme(4, 64, False), QuantizationScheme(4, 32, True), QuantizationScheme(8, 64, False)
    ),
    "int8": QuantizationConfig(*[QuantizationScheme(8, 32, True)] * 3),
}
FLOAT = "float"


class SharedModels:
    """Checkpoints and artifacts in a folder that all workers of a session share. Tests must not change them.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def checkpoint(self, family: str = "llama", **config: Any) -> Path:
        """A tiny checkpoint; ``config`` overrides keys of its config.json."""
        config = {"max_position_embeddings": 700, **config}
        return self._once(
            f"checkpoint-{family}", config, lambda folder: write_checkpoint(folder / "checkpoint", family, **config)
        )

    def artifact(self, family: str = "llama", formats: str | None = None, device: str = "cpu", **config: Any) -> Path:
        """An artifact of :meth:`checkpoint`, built without the quality gate.

        Args:
            family: A model type.
            formats: A name in :data:`FORMATS`, :data:`FLOAT`, or None for edgekit's default quantization.
            device: What it is built for: float32 activations for "cpu", float16 for "jetson".
            config: Overrides keys of the checkpoint's config.json.
        """
        checkpoint = self.checkpoint(family, **config)
        chosen = QuantizationConfig.none() if formats == FLOAT else FORMATS.get(formats or "")
        assert chosen is not None or formats is None, f"no formats are named {formats!r}"

        def make(folder: Path) -> Path:
            return build(
                None, device, checkpoint=checkpoint, out=folder / "artifact", gate=False,
                quantization=chosen,
            ).artifact  # fmt: skip

        return self._once(f"{family}-{formats}-{device}".replace(" ", "-"), config, make)

    def tiny(self, *, reasoning: bool = False, float16: bool = False) -> Path:
        """The hand-written artifact of ``tiny_artifact.py``."""
        options = {"reasoning": reasoning, "float16": float16}
        return self._once("tiny", options, lambda folder: write_tiny_artifact(folder / "artifact", **options))

    def smollm2(self, formats: str | None = None) -> Path:
        """SmolLM2-135M, a real model, in its recipe's quantization or, with :data:`FLOAT`, unquantized.

        The test is skipped where the checkpoint cannot be fetched.
        """

        def make(folder: Path) -> Path:
            chosen = QuantizationConfig.none() if formats == FLOAT else None
            return build(
                "smollm2-135m", "cpu", out=folder / "artifact", gate=False,
                quantization=chosen,
            ).artifact  # fmt: skip

        try:
            return self._once(f"smollm2-{formats}", {}, make)
        except SourceError as error:
            pytest.skip(f"SmolLM2-135M cannot be fetched: {error.message}")

    def _once(self, name: str, options: dict[str, Any], make: Callable[[Path], Path]) -> Path:
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
        folder = self._root / f"{name}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        done = folder / "path.txt"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by a worker that dies
            if not done.exists():
                done.write_text(str(make(folder)), encoding="utf-8")
        return Path(done.read_text(encoding="utf-8"))
