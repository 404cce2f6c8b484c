"""An engine on a GPU whose place the processor takes when the GPU fails: lost, out of memory, its driver restarted.

The evaluation that failed raises, so that an answer ends where it was. The next one runs on the processor, which first
evaluates again what the sequence holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import RuntimeFacts
from ..errors import AcceleratorError
from .engine import CancellableEngine, Engine, EngineOptions, check_rewind, open_engine


class RecoveringEngine:
    """An :class:`~edgekit.runtime.engine.Engine`, which describes the members.

    Args:
        engine: The engine on a GPU.
        reopen: Opens the one that takes its place.

    Attributes:
        current: The engine that runs at the moment.
    """

    def __init__(self, engine: Engine, reopen: Callable[[], Engine]) -> None:
        self._reopen = reopen
        self._ids: list[int] = []  # the sequence
        self._closed = False
        self.position = 0
        self._use(engine)

    def _use(self, engine: Engine) -> None:
        self.current = engine
        self.name, self.kernel, self.on_processor = engine.name, engine.kernel, engine.on_processor
        self.threads, self.vocab_size, self.context = engine.threads, engine.vocab_size, engine.context
        self.kv_type, self.cache_bytes = engine.kv_type, engine.cache_bytes

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Append ids; see :meth:`~edgekit.runtime.engine.Engine.evaluate`.

        Raises:
            AcceleratorError: The GPU failed. The sequence is unchanged, and the processor takes over.
        """
        held = self.current.position
        try:
            logits = self.current.evaluate([*self._ids[held:], *ids])
        except AcceleratorError as error:
            if self._closed or self.current.on_processor:
                raise
            self.current.close()
            self._use(self._reopen())
            raise AcceleratorError(
                f"{error.message}; the answer ends here",
                hint=f"ask again: the session goes on with the engine {self.current.name}",
            ) from error
        self._ids += ids
        self.position = len(self._ids)
        return logits[-len(ids) :]

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on."""
        self.current.rewind(min(check_rewind(length, self.position), self.current.position))
        del self._ids[length:]
        self.position = len(self._ids)

    def cancel(self) -> None:
        """See :class:`~edgekit.runtime.engine.CancellableEngine`."""
        if isinstance(self.current, CancellableEngine):
            self.current.cancel()

    def close(self) -> None:
        """Free the model and the cache."""
        self._closed = True
        self.current.close()


def recovering(engine: Engine, folder: Path, manifest: RuntimeFacts, options: EngineOptions) -> Engine:
    """The engine itself if it runs on the processor, otherwise one that recovers.

    Args:
        engine: An open engine.
        folder: The artifact.
        manifest: Its manifest.
        options: What the engine was opened with.
    """
    if engine.on_processor:
        return engine
    spare = "native" if manifest.quantized else "ort"
    again = replace(options, context=engine.context, kv_type=None)
    return RecoveringEngine(engine, lambda: open_engine(folder, manifest, again, spare))
