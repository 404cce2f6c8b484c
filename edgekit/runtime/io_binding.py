"""An engine on onnxruntime, for any execution provider, with all inputs and outputs bound in advance.

Each layer has one buffer for keys and one for values, in the memory of the provider. A buffer is bound as past *and*
present, so the attention operator (``com.microsoft.GroupQueryAttention``) writes new rows in place and nothing is
copied as the sequence grows. Only token ids and the length go to the device, and one row of logits comes back.
Rewinding only changes the position. Long inputs run in chunks, which bounds the scratch of attention and gated MLP.

The graph's inputs and outputs are listed in ``edgekit/export``; this file depends on nothing else of it. Engines
subclass :class:`BoundEngine` and name their :class:`~edgekit.runtime.provider.Provider`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import RuntimeFacts
from ..errors import AcceleratorError, EngineError, EvaluationCancelledError
from ..host import physical_cores
from ..threads import check_threads
from .engine import EngineOptions, check_ids, check_rewind, resolve_context
from .interruptible import interruptible
from .provider import (
    MODEL_FILE,
    Provider,
    Setup,
    allocate_pages,
    first_row_value,
    lacks_float16,
    load_onnxruntime,
    no_float16,
    one_line,
    onnxruntime_errors,
    open_session,
    out_of_memory,
)

_Bound = TypeVar("_Bound", bound="BoundEngine")
_FLOAT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class BoundEngine:
    """onnxruntime as an :class:`~edgekit.runtime.engine.Engine`, which describes the members.

    Attributes:
        provider: The execution provider that runs the graph.
    """

    name: ClassVar[str]
    provider: ClassVar[Provider]

    def __init__(
        self,
        ort: Any,
        session: Any,
        *,
        setup: Setup,
        threads: int,
        vocab_size: int,
        context: int,
        kv_type: str,
        first_row: Any,
    ) -> None:
        self.kernel = f"onnxruntime {ort.__version__} {self.provider.name.removesuffix('ExecutionProvider')}"
        self.on_processor = self.provider.on_processor
        self.threads = threads
        self.vocab_size = vocab_size
        self.context = context
        self.position = 0
        self._session = session
        self._chunk = setup.prefill_chunk
        self._new_run = ort.RunOptions
        self._running: Any = None  # the RunOptions of the evaluation that runs at the moment
        self._all_logits = first_row is not None
        self._first_row = first_row  # the session reads it from here and does not keep it alive
        self._binding = session.io_binding()
        self._errors = onnxruntime_errors()
        self._mask = np.ones(context, dtype=np.int64)  # (context,): every position before the end is attended to
        self._cache = _bind_cache(ort, session, self._binding, context, self.provider, setup)
        self.kv_type = kv_type
        self.cache_bytes = sum(
            math.prod(buffer.shape()) * np.dtype(_FLOAT_TYPES[buffer.data_type()]).itemsize for buffer in self._cache
        )  # OrtValue has tensor_size_in_bytes from onnxruntime 1.23 on

    @classmethod
    def open(cls: type[_Bound], folder: Path, manifest: RuntimeFacts, options: EngineOptions) -> _Bound:
        """Load ``model.onnx`` of an artifact; see :func:`edgekit.runtime.engine.open_engine`."""
        return cls.open_with(folder, manifest, options, Setup(cls.provider.prefill_chunk))

    @classmethod
    def open_with(
        cls: type[_Bound], folder: Path, manifest: RuntimeFacts, options: EngineOptions, setup: Setup
    ) -> _Bound:
        """Load ``model.onnx`` of an artifact, to run it in this way."""
        context = resolve_context(manifest, options.context)
        if options.kv_type not in (None, manifest.activation_type):
            kept = manifest.activation_type
            raise EngineError(
                f"onnxruntime keeps keys and values in the graph's type, {kept}, not in {options.kv_type}",
                hint="use the native engine for another type",
            )
        threads = options.threads or physical_cores()
        check_threads(threads)
        ort = load_onnxruntime()
        first_row = first_row_value(ort) if options.all_logits else None
        return cls(
            ort,
            open_session(ort, folder, cls.provider, threads, first_row, setup.cpu_nodes),
            setup=setup,
            threads=threads,
            vocab_size=int(manifest.model["vocab_size"]),
            context=context,
            kv_type=manifest.activation_type,
            first_row=first_row,
        )

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Append ids to the sequence; see :meth:`~edgekit.runtime.engine.Engine.evaluate`."""
        self._open()
        array = check_ids(ids, vocab_size=self.vocab_size, position=self.position, context=self.context)
        logits = np.empty((array.size if self._all_logits else 1, self.vocab_size), dtype=np.float32)
        position, run = self.position, self._new_run()

        def evaluate() -> None:
            for start in range(0, array.size, self._chunk):
                chunk = array[start : start + self._chunk]
                self._run(chunk, logits[start : start + chunk.size] if self._all_logits else logits, run)
                self.position += chunk.size

        self._running = run
        try:
            interruptible(evaluate, self.cancel, array.size)
        except BaseException:
            self.position = position
            raise
        finally:
            self._running = None
        return logits

    def cancel(self) -> None:
        """End the evaluation that runs at the moment; see :class:`~edgekit.runtime.engine.CancellableEngine`."""
        run = self._running
        if run is not None:
            run.terminate = True

    def _run(self, ids: NDArray[np.int64], logits: NDArray[np.float32], run: Any) -> None:
        """Evaluate ids (n,) at the current position and write logits (1 or n, vocab_size)."""
        if run.terminate:
            raise EvaluationCancelledError("the call was cancelled")
        total = self.position + ids.size
        bind = self._binding
        bind.bind_input("input_ids", "cpu", 0, np.int64, (1, ids.size), ids.ctypes.data)
        bind.bind_input("attention_mask", "cpu", 0, np.int64, (1, total), self._mask.ctypes.data)
        if self._all_logits:  # the graph declares one row, so a buffer bound here could have no other shape
            bind.bind_output("logits", "cpu")
        else:
            bind.bind_output("logits", "cpu", 0, np.float32, (1, *logits.shape), logits.ctypes.data)
        try:
            self._session.run_with_iobinding(bind, run)
        except self._errors as error:
            if run.terminate:
                raise EvaluationCancelledError("the call was cancelled") from None
            raise self._failure(error, ids.size) from error
        if self._all_logits:
            logits[:] = bind.get_outputs()[-1].numpy()[0]  # the last output, bound after the cache

    def _failure(self, error: Exception, tokens: int) -> EngineError:
        """The error for a run that failed."""
        where = f"onnxruntime failed on {tokens} tokens at position {self.position}: {one_line(error)}"
        if self.on_processor:
            return EngineError(where)
        if out_of_memory(error):
            return AcceleratorError(
                f"{self.provider.title} is out of memory with a context of {self.context} positions; {where}",
                hint="ask for a smaller --context, or use the processor: --engine native",
            )
        if lacks_float16(error):
            return no_float16(self.provider)
        return AcceleratorError(f"{self.provider.title}: {where}", hint="use the processor: --engine native")

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on."""
        self._open()
        self.position = check_rewind(length, self.position)

    def close(self) -> None:
        """Free the session and the cache."""
        self._session = self._binding = None
        self._cache = []

    def _open(self) -> None:
        if self._session is None:
            raise EngineError("the engine is closed")


def _bind_cache(ort: Any, session: Any, binding: Any, context: int, provider: Provider, setup: Setup) -> list[Any]:
    """Allocate the KV cache and bind each buffer as past and as present.

    Returns:
        The buffers, each (1, kv_heads, context, head_dim) in the graph's float type. On the processor the system
        provides their pages when positions are first written, so a long context takes no memory until it is used.

    Raises:
        EngineError: The graph's inputs are not those of an edgekit artifact.
    """
    buffers = []
    for value in session.get_inputs():
        if not value.name.startswith("past_key_values."):
            continue
        _, kv_heads, _, head_dim = value.shape
        shape = (1, kv_heads, context, head_dim)
        dtype = _FLOAT_TYPES.get(value.type)
        if dtype is None or not isinstance(kv_heads, int) or not isinstance(head_dim, int):
            raise EngineError(
                f"{MODEL_FILE}: input {value.name} is {value.type} {value.shape}, which is not a KV cache"
            )
        try:
            buffer = (allocate_pages if setup.cache_on_processor else provider.allocate)(ort, shape, dtype)
        except onnxruntime_errors() as error:
            kind = EngineError if provider.on_processor else AcceleratorError
            raise kind(
                f"{provider.title}: cannot allocate a KV cache of {context} positions: {one_line(error)}",
                hint="ask for a smaller --context" + ("" if provider.on_processor else ", or use --engine native"),
            ) from error
        binding.bind_ortvalue_input(value.name, buffer)
        binding.bind_ortvalue_output(value.name.replace("past_key_values.", "present."), buffer)
        buffers.append(buffer)
    if not buffers:
        raise EngineError(f"{MODEL_FILE} has no past_key_values inputs: it is not a graph that edgekit exported")
    return buffers
