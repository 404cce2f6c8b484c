"""What the engines on a GPU share: each proves its results on a machine before it answers there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, TypeVar

from ..artifact.manifest import RuntimeFacts
from ..errors import AcceleratorError
from ..host import drop_from_cache
from .engine import EngineOptions
from .io_binding import BoundEngine
from .proof.adapter import Adapter
from .proof.prove import prove
from .proof.verdict import Verdict
from .provider import load_onnxruntime, no_float16
from .replay import check_logits

DATA_FILE = "model.onnx.data"
_Accelerated = TypeVar("_Accelerated", bound="AcceleratedEngine")


class AcceleratedEngine(BoundEngine, ABC):
    """An engine on a GPU.

    Attributes:
        verdict: The proof that it computes this artifact right on this machine.
        proven_now: Whether the proof was made when the engine was opened, and not found in its file.
    """

    verdict: Verdict
    proven_now: bool

    @staticmethod
    @abstractmethod
    def identify(ort: Any) -> tuple[Adapter, str]:
        """The GPU that the engine uses, and the versions of what runs on it.

        Raises:
            AcceleratorError: This machine cannot use the engine.
        """

    @classmethod
    def open(cls: type[_Accelerated], folder: Path, manifest: RuntimeFacts, options: EngineOptions) -> _Accelerated:
        """Load ``model.onnx`` of an artifact; see :func:`edgekit.runtime.engine.open_engine`.

        Raises:
            AcceleratorError: The GPU cannot be used, or it computes wrong results.
        """
        adapter, versions = cls.identify(load_onnxruntime())
        if manifest.activation_type == "float16" and adapter.float16 is False:
            raise no_float16(cls.provider, adapter.name)
        verdict, proven_now = prove(cls, folder, manifest, options, adapter, versions)
        if not verdict.passed:
            raise AcceleratorError(
                f"{cls.provider.title} on {adapter} computes wrong results: {verdict.detail}",
                hint="update the GPU's driver, or use the processor: --engine native",
            )
        engine = cls.open_with(folder, manifest, options, verdict.setup)
        engine.verdict, engine.proven_now = verdict, proven_now
        try:
            engine._check_sample(adapter)
        except BaseException:
            engine.close()
            raise
        engine.kernel = f"{engine.kernel}, {adapter.name}"
        if adapter.shares_memory:  # which now holds a copy of the weights for the GPU
            drop_from_cache(folder / DATA_FILE)
        return engine

    def _check_sample(self, adapter: Adapter) -> None:
        """Compare a few logits: WebGPU reports no error when a buffer of a long context does not fit."""
        row = self.evaluate(self.verdict.sample_ids[: self.context])[-1]
        self.rewind(0)
        check = check_logits(row, list(self.verdict.sample_logits))
        if self.context >= len(self.verdict.sample_ids) and not check.passed:
            raise AcceleratorError(
                f"{self.provider.title} on {adapter} is wrong with a context of {self.context} positions, "
                f"and right with a short one; its memory may be too small ({check.detail})",
                hint="ask for a smaller --context, or use the processor: --engine native",
            )
