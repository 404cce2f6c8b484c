"""The portable engine ``ort``: onnxruntime on the processor. It runs every artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..artifact.manifest import RuntimeFacts
from .io_binding import BoundEngine
from .provider import Provider

CPU = "CPUExecutionProvider"
# Attention scratch grows with chunk * context * heads, the MLP's with chunk * intermediate size. At 256 rows the
# weights are read once per 256 tokens and arithmetic is the bottleneck, not memory: larger chunks gain nothing.
PREFILL_CHUNK = 256


def _attach(ort: Any, options: Any, cpu_nodes: Sequence[str]) -> Sequence[str]:
    return (CPU,)


class OrtEngine(BoundEngine):
    """onnxruntime's processor kernels as an :class:`~edgekit.runtime.engine.Engine`, which describes the members."""

    name = "ort"
    provider = Provider(CPU, "the processor", PREFILL_CHUNK, _attach)

    @staticmethod
    def can_run(manifest: RuntimeFacts) -> bool:
        """True: onnxruntime runs every artifact."""
        return True

    @staticmethod
    def preference(manifest: RuntimeFacts) -> int:
        """0: every other engine is faster."""
        return 0


ENGINE = OrtEngine
