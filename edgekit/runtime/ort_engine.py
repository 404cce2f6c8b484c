"""The portable engine ``ort``: onnxruntime, with all inputs and outputs bound in advance.

Each layer has one buffer for keys and one for values. A buffer is bound as past *and* present, so the attention
operator (``com.microsoft.GroupQueryAttention``) writes new rows in place and nothing is copied as the sequence grows.
Rewinding only changes the position. Long inputs run in chunks, which bounds the scratch of attention and gated MLP.

The graph's inputs and outputs are listed in ``edgekit/export``; this file depends on nothing else of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import RuntimeFacts
from ..errors import EngineError, EvaluationCancelledError
from ..host import physical_cores
from ..ort import import_onnxruntime
from ..threads import check_threads
from .engine import EngineOptions, check_ids, check_rewind, resolve_context
from .interruptible import interruptible

MODEL_FILE = "model.onnx"
# Attention scratch grows with chunk * context * heads, the MLP's with chunk * intermediate size. At 256 rows the
# weights are read once per 256 tokens and arithmetic is the bottleneck, not memory: larger chunks gain nothing.
PREFILL_CHUNK = 256
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
MOST_THREADS = 1024  # as for the native engine
_LOGITS_START = "logits_start"
_FIRST_POSITION = -(2**62)  # a Slice clamps it to 0
_FLOAT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OrtEngine:
    """onnxruntime as an :class:`~edgekit.runtime.engine.Engine`, which describes the members."""

    name = "ort"

    def __init__(
        self,
        ort: Any,
        session: Any,
        *,
        provider: str,
        threads: int,
        vocab_size: int,
        context: int,
        kv_type: str,
        first_row: Any,
    ) -> None:
        self.kernel = f"onnxruntime {ort.__version__} {provider.removesuffix('ExecutionProvider')}"
        self.on_processor = provider == CPU
        self.threads = threads
        self.vocab_size = vocab_size
        self.context = context
        self.position = 0
        self._session = session
        self._new_run = ort.RunOptions
        self._running: Any = None  # the RunOptions of the evaluation that runs at the moment
        self._all_logits = first_row is not None
        self._first_row = first_row  # the session reads it from here and does not keep it alive
        self._binding = session.io_binding()
        self._errors = _errors()
        self._mask = np.ones(context, dtype=np.int64)  # (context,): every position before the end is attended to
        device = "cuda" if provider.startswith("CUDA") else "cpu"
        self._cache = _bind_cache(ort, session, self._binding, context, device)
        self.kv_type = kv_type
        self.cache_bytes = sum(buffer.tensor_size_in_bytes() for buffer in self._cache)

    @staticmethod
    def can_run(manifest: RuntimeFacts) -> bool:
        """True: onnxruntime runs every artifact."""
        return True

    @staticmethod
    def preference(manifest: RuntimeFacts) -> int:
        """2 for an artifact built for CUDA, whose activations are float16, where CUDA can run it; otherwise 0."""
        return 2 if manifest.activation_type == "float16" and has_cuda() else 0

    @classmethod
    def open(cls, folder: Path, manifest: RuntimeFacts, options: EngineOptions) -> OrtEngine:
        """Load ``model.onnx`` of an artifact; see :func:`edgekit.runtime.engine.open_engine`."""
        context = resolve_context(manifest, options.context)
        if options.kv_type not in (None, manifest.activation_type):
            kept = manifest.activation_type
            raise EngineError(
                f"onnxruntime keeps keys and values in the graph's type, {kept}, not in {options.kv_type}",
                hint="use the native engine for another type",
            )
        threads = options.threads or physical_cores()
        if threads > MOST_THREADS:  # onnxruntime would start them all, and they spin
            raise EngineError(f"{threads} threads were requested; allowed: 1 to {MOST_THREADS}")
        check_threads(threads)
        ort = _import_onnxruntime()
        provider = choose_provider(ort.get_available_providers(), manifest.activation_type)
        first_row = None
        if options.all_logits:
            first_row = ort.OrtValue.ortvalue_from_numpy(np.array([_FIRST_POSITION], dtype=np.int64))
        session = _load(ort, folder, provider, threads, first_row)
        return cls(
            ort,
            session,
            provider=session.get_providers()[0],  # onnxruntime falls back to the CPU when CUDA cannot start
            threads=threads,
            vocab_size=int(manifest.model["vocab_size"]),
            context=context,
            kv_type=manifest.activation_type,
            first_row=first_row,
        )

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Append ids to the sequence; see :meth:`~edgekit.runtime.engine.Engine.evaluate`."""
        if self._session is None:
            raise EngineError("the engine is closed")
        array = check_ids(ids, vocab_size=self.vocab_size, position=self.position, context=self.context)
        logits = np.empty((array.size if self._all_logits else 1, self.vocab_size), dtype=np.float32)
        position, run = self.position, self._new_run()

        def evaluate() -> None:
            for start in range(0, array.size, PREFILL_CHUNK):
                chunk = array[start : start + PREFILL_CHUNK]
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
            raise EngineError(
                f"onnxruntime failed on {ids.size} tokens at position {self.position}: {_one_line(error)}"
            ) from error
        if self._all_logits:
            logits[:] = bind.get_outputs()[-1].numpy()[0]  # the last output, bound after the cache

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on."""
        self.position = check_rewind(length, self.position)

    def close(self) -> None:
        """Free the session and the cache."""
        self._session = self._binding = None
        self._cache = []


ENGINE = OrtEngine


def has_cuda() -> bool:
    """Whether onnxruntime is installed with CUDA and can use a GPU; the driver may be missing."""
    try:
        ort = _import_onnxruntime()
    except EngineError:
        return False
    if CUDA not in ort.get_available_providers():
        return False
    try:
        ort.OrtValue.ortvalue_from_shape_and_type((1,), np.float32, "cuda", 0)
    except _errors():
        return False
    return True


def choose_provider(available: Sequence[str], activation_type: str) -> str:
    """The execution provider for an artifact: CUDA runs float16 graphs, the CPU any.

    Args:
        available: The execution providers of this onnxruntime.
        activation_type: The graph's float type, ``float32`` or ``float16``.
    """
    if activation_type == "float16" and CUDA in available:
        return CUDA
    return CPU


def _import_onnxruntime() -> Any:
    try:
        return import_onnxruntime()
    except ImportError as error:
        raise EngineError(
            f"onnxruntime cannot be imported: {_one_line(error)}", hint="pip install onnxruntime"
        ) from None


def _load(ort: Any, folder: Path, provider: str, threads: int, first_row: Any) -> Any:
    """An ``InferenceSession`` of the artifact's graph, or an :class:`EngineError` in one line."""
    path = folder / MODEL_FILE
    if not path.is_file():
        raise EngineError(f"{folder} has no {MODEL_FILE}", hint=f"edgekit verify {folder} lists what is missing")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they come back as exceptions too
    # With the arena the peak is 8 % lower than with the C library (SmolLM2-135M, 512-token prefill: 282 and 307 MB).
    # Memory patterns are planned per input shape: they add 10 MB and gain nothing when prompts differ in length.
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    if first_row is not None:
        options.add_initializer(_LOGITS_START, first_row)
    try:
        # onnxruntime encodes the path as UTF-8, whatever the locale that Python has decoded it with.
        encoded = os.fsencode(path).decode("utf-8")
    except UnicodeError:
        raise EngineError(
            f"onnxruntime cannot load {path}: the path is not UTF-8", hint="rename the folder, or use the native engine"
        ) from None
    try:
        return ort.InferenceSession(encoded, options, providers=[provider])
    except _errors() as error:
        raise EngineError(
            f"onnxruntime {ort.__version__} cannot load {path}: {_one_line(error)}",
            hint=f"edgekit verify {folder} checks the files",
        ) from error


def _bind_cache(ort: Any, session: Any, binding: Any, context: int, device: str) -> list[Any]:
    """Allocate the KV cache and bind each buffer as past and as present.

    Returns:
        The buffers, each (1, kv_heads, context, head_dim) in the graph's float type. On the CPU the system provides
        their pages when positions are first written, so a long context takes no memory until it is used.

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
            if device == "cpu":
                buffer = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=dtype))
            else:
                buffer = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0)
        except _errors() as error:
            raise EngineError(f"cannot allocate a KV cache of {context} positions: {_one_line(error)}") from error
        binding.bind_ortvalue_input(value.name, buffer)
        binding.bind_ortvalue_output(value.name.replace("past_key_values.", "present."), buffer)
        buffers.append(buffer)
    if not buffers:
        raise EngineError(f"{MODEL_FILE} has no past_key_values inputs: it is not a graph that edgekit exported")
    return buffers


def _errors() -> tuple[type[Exception], ...]:
    """The exceptions that onnxruntime raises: its own, which have no common base class, and those that pybind11 makes
    of C++ exceptions."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    own = [
        found
        for found in vars(onnxruntime_pybind11_state).values()
        if isinstance(found, type) and issubclass(found, Exception)
    ]
    return (RuntimeError, MemoryError, ValueError, *own)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
