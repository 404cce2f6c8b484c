"""The engine ``native``: edgekit's own C++ core over the memory-mapped artifact (``native/include/edgekit.h``)."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..artifact.manifest import RuntimeFacts
from ..errors import (
    ArtifactError,
    ContextLengthError,
    EngineError,
    EvaluationCancelledError,
    SessionBusyError,
    ThreadsWarning,
    TokenRangeError,
)
from ..host import physical_cores
from ..threads import check_thread_count
from .engine import EngineOptions, check_ids, check_rewind, resolve_context
from .interruptible import OwnLock, interruptible
from .sampler import Sampler, sample_together

_ERRORS = {
    native.CONTEXT: ContextLengthError,
    native.TOKEN: TokenRangeError,
    native.BUSY: SessionBusyError,
    native.CANCELLED: EvaluationCancelledError,
}


class NativeEngine:
    """A session of the native core; see :class:`~edgekit.runtime.engine.Engine`.

    Loading maps the weights and reads none of them, so it takes milliseconds and the memory of the KV cache.
    """

    name = "native"
    on_processor = True

    def __init__(
        self,
        source: Path | NativeEngine,
        context: int,
        threads: int,
        all_logits: bool,
        kv_type: str = "float16",
        speculate: bool = False,
    ) -> None:
        """``source`` is the artifact's folder, or an engine whose weights are shared."""
        self._library = native.library()
        check_thread_count(threads)  # the library takes 32 bits
        self._model, self._session = ctypes.c_void_p(), ctypes.c_void_p()
        self._lock = OwnLock("the engine")  # the library lets one thread at a time use a session
        self._handle_lock = Lock()  # held while the session is freed, or cancelled by a thread without the other lock
        self._evaluating = False
        self._draft: NativeEngine | None = None  # guesses tokens; only calls of this engine use it
        try:
            if isinstance(source, NativeEngine):
                source._open()
                model = source._model
            else:
                self._check(self._library.ek_model_open(_c_path(source), ctypes.byref(self._model)))
                model = self._model
            kind = native.KV_TYPES.index(kv_type)
            self._check(self._library.ek_session_create(model, context, threads, kind, ctypes.byref(self._session)))
        except EngineError:
            self.close()
            raise
        wanted = ctypes.c_int()
        started = self._library.ek_session_threads(self._session, wanted)
        if started < wanted.value:
            text = f"the system started only {started} of {wanted.value} threads, so the model is slower"
            warnings.warn(text, ThreadsWarning, stacklevel=2)
        self.kernel = str(self._library.ek_kernel_name().decode())
        self.threads = threads
        self.context = context
        self.kv_type = kv_type
        self.vocab_size = int(self._library.ek_model_vocab_size(model))
        self.cache_bytes = int(self._library.ek_session_cache_bytes(self._session))
        self.position = 0
        self._all_logits = all_logits
        self._speculates = speculate

    @staticmethod
    def can_run(manifest: RuntimeFacts) -> bool:
        """Whether every part of the model is quantized; the kernels multiply nothing else."""
        return manifest.quantized

    @staticmethod
    def preference(manifest: RuntimeFacts) -> int:
        """1: faster and smaller than onnxruntime on a processor."""
        return 1

    @classmethod
    def open(cls, folder: Path, manifest: RuntimeFacts, options: EngineOptions) -> NativeEngine:
        """Open an artifact.

        Raises:
            ContextLengthError: The requested context is longer than the model's.
            EngineError: The artifact is damaged or not quantized, or there is not enough memory.
            NativeLibraryError: The library is missing.
        """
        context = resolve_context(manifest, options.context)
        return cls(
            folder,
            context,
            options.threads or physical_cores(),
            options.all_logits,
            options.kv_type or _planned_kv_type(manifest),
            options.speculate,
        )

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Append ids to the sequence; see :meth:`~edgekit.runtime.engine.Engine.evaluate`."""
        with self._lock:
            self._open()
            array = check_ids(ids, vocab_size=self.vocab_size, position=self.position, context=self.context)
            tokens = array.astype(np.int32)
            logits = np.empty((len(tokens) if self._all_logits else 1, self.vocab_size), np.float32)
            if self._evaluating:  # a signal handler in the middle of an evaluation
                raise SessionBusyError("the engine is evaluating other tokens")

            def evaluate() -> None:
                if len(tokens) == 1 and self._speculates:
                    self._check(self._library.ek_session_next(self._session, int(tokens[0]), logits.ctypes.data))
                    return
                self._check(
                    self._library.ek_session_evaluate(
                        self._session, tokens.ctypes.data, len(tokens), int(self._all_logits), logits.ctypes.data
                    )
                )

            self._evaluating = True
            try:
                interruptible(evaluate, self.cancel, len(tokens))
            finally:
                self._evaluating = False
                self.position = int(self._library.ek_session_position(self._session))
        return logits

    def cancel(self) -> None:
        """End the evaluation that runs at the moment; see :class:`~edgekit.runtime.engine.CancellableEngine`."""
        if self._lock.is_other:
            return
        with self._handle_lock:
            self._library.ek_session_cancel(self._session)

    def accepted(self) -> int:
        """How many tokens did not have to be evaluated; see :class:`~edgekit.runtime.engine.SpeculatingEngine`."""
        with self._lock:
            return int(self._library.ek_session_accepted(self._session))

    def use_draft(self, draft: NativeEngine) -> None:
        """Let an engine of a smaller model guess tokens; its ids mean the same. It belongs to this engine from now on.

        Raises:
            EngineError: An engine is closed, or this one has a draft model already.
        """
        with _all_locked(self, draft):
            if self._draft is not None:
                raise EngineError("the engine has a draft model already")
            self._check(self._library.ek_session_set_draft(self._session, draft._session))
            self._draft = draft

    def fork(self, threads: int = 1) -> NativeEngine:
        """Open another engine with the same weights and an empty sequence; one thread is enough for :meth:`step`.

        Raises:
            EngineError: There is not enough memory, or the engine is closed or is itself a fork.
        """
        with self._lock:
            if not self._model:
                raise EngineError("only an open engine that itself opened an artifact can be forked")
            return NativeEngine(self, self.context, threads, self._all_logits, self.kv_type, self._speculates)

    def step(self, engines: Sequence[NativeEngine], ids: Sequence[int]) -> NDArray[np.float32]:
        """Append one id to each of several sequences, all computed together by this engine's threads.

        Args:
            engines: This engine and its forks, 1 to ``native.MOST_TOGETHER``, each at most once.
            ids: One id for each engine.

        Returns:
            Logits, float32 (engines, vocab_size).

        Raises:
            EngineError: An engine is not a fork, there are too many engines, or the numbers of engines and ids differ.
            TokenRangeError: An id is outside the vocabulary.
            ContextLengthError: A sequence has filled its context.
        """
        if len(ids) != len(engines):
            raise EngineError(f"{len(ids)} ids for {len(engines)} sequences")
        return self.step_pieces(engines, [[each] for each in ids])

    def step_pieces(self, engines: Sequence[NativeEngine], pieces: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Append one or more ids to each of several sequences; as :meth:`step`.

        Args:
            engines: This engine and its forks, each at most once.
            pieces: Ids for each engine, at least one, at most ``native.MOST_TOGETHER`` in all.

        Returns:
            Logits of the last id of each sequence, float32 (engines, vocab_size).
        """
        with _all_locked(self, *engines):
            counts = np.array([len(piece) for piece in pieces], np.int64)
            tokens = np.array([each for piece in pieces for each in piece], np.int32)
            if len(counts) != len(engines):
                raise EngineError(f"{len(counts)} pieces for {len(engines)} sequences")
            logits = np.empty((len(engines), self.vocab_size), np.float32)
            handles = (ctypes.c_void_p * len(engines))(*(engine._session for engine in engines))
            self._check(
                self._library.ek_session_step_pieces(
                    self._session, handles, counts.ctypes.data, tokens.ctypes.data, len(counts), logits.ctypes.data
                )
            )
            for engine, count in zip(engines, counts, strict=True):
                engine.position += int(count)
        return logits

    def sample(self, samplers: Sequence[Sampler], logits: NDArray[np.float32]) -> list[int]:
        """Choose the next tokens of several sequences by this engine's threads; see :func:`sample_together`.

        Raises:
            EngineError: The logits of a sequence are not numbers, or the engine is closed.
        """
        with self._lock:
            self._open()
            return sample_together(self._session, samplers, logits)

    def get_block(self, block: int) -> NDArray[np.uint8]:
        """The keys and values of ``native.BLOCK`` tokens of the sequence, from ``block * native.BLOCK`` on.

        Raises:
            EngineError: The sequence does not have them all, or the engine is closed.
        """
        with self._lock:
            self._open()
            found = np.empty(int(self._library.ek_session_block_bytes(self._session)), np.uint8)
            self._check(self._library.ek_session_get_block(self._session, block, found.ctypes.data))
        return found

    def append_block(self, ids: Sequence[int], block: NDArray[np.uint8]) -> None:
        """Append ``native.BLOCK`` ids with the keys and values that :meth:`get_block` returned behind the same ids.

        Raises:
            EngineError: The position is not a multiple of ``native.BLOCK``, or the engine is closed.
            ContextLengthError: They do not fit into the context.
            TokenRangeError: An id is outside the vocabulary.
        """
        if len(ids) != native.BLOCK:
            raise EngineError(f"a block has {native.BLOCK} ids, not {len(ids)}")
        with self._lock:
            self._open()
            tokens = np.array(ids, np.int32)
            size = int(self._library.ek_session_block_bytes(self._session))
            if block.dtype != np.uint8 or block.size != size or not block.flags.c_contiguous:
                raise EngineError(f"a block of this model has {size} bytes, not {block.nbytes}")
            self._check(self._library.ek_session_append_block(self._session, tokens.ctypes.data, block.ctypes.data))
            self.position += len(tokens)

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on."""
        with self._lock:
            self._open()
            check_rewind(length, self.position)
            self._check(self._library.ek_session_rewind(self._session, length))
            self.position = length

    def tokens(self) -> list[int]:
        """The ids that have been evaluated."""
        with self._lock:
            self._open()
            ids = np.empty(self.position, np.int32)
            self._check(self._library.ek_session_tokens(self._session, ids.ctypes.data, len(ids)))
        return [int(i) for i in ids]

    def save(self, path: Path) -> None:
        """Write the sequence to a file, so that its prompt need not be evaluated again.

        Raises:
            EngineError: The file cannot be written, or the engine is closed.
        """
        with self._lock:
            self._open()
            self._check(self._library.ek_session_save(self._session, _c_path(path)))

    def load(self, path: Path) -> None:
        """Replace the sequence with one that :meth:`save` wrote.

        Raises:
            EngineError: The file is not a saved sequence, or is from another model or type of KV cache.
            ContextLengthError: The file holds more positions than the context.
        """
        with self._lock:
            self._open()
            try:
                self._check(self._library.ek_session_load(self._session, _c_path(path)))
            finally:
                self.position = int(self._library.ek_session_position(self._session))

    def copy(self, source: NativeEngine) -> None:
        """Replace the sequence with that of another engine that shares the weights.

        Raises:
            EngineError: The other engine does not share the weights or has another type of KV cache.
            ContextLengthError: The other sequence has more positions than the context.
        """
        with _all_locked(self, source):
            self._check(self._library.ek_session_copy(self._session, source._session))
            self.position = source.position

    def close(self) -> None:
        """Free the session and unmap the model, when another thread's call has ended.

        Raises:
            SessionBusyError: A signal handler has interrupted an evaluation to close its engine.
        """
        if self._lock.is_other:  # a thread of the parent may have held the locks when the process was forked
            self._free()
            return
        with self._lock:
            if self._evaluating:
                raise SessionBusyError("the engine cannot be closed while it evaluates tokens")
            with self._handle_lock:
                self._free()

    def _free(self) -> None:
        self._library.ek_session_free(self._session)
        if self._draft is not None:
            self._draft.close()
            self._draft = None
        self._library.ek_model_close(self._model)
        self._session, self._model = ctypes.c_void_p(), ctypes.c_void_p()

    def __del__(self) -> None:
        if hasattr(self, "_session"):
            self.close()

    def _open(self) -> None:
        if not self._session:
            raise EngineError("the engine is closed")

    @staticmethod
    def _check(status: int) -> None:
        if status != native.OK:
            raise _ERRORS.get(status, EngineError)(native.last_error())


def _planned_kv_type(manifest: RuntimeFacts) -> str:
    """The type of keys and values of the artifact's plan, if that is for this engine; otherwise float16.

    Raises:
        ArtifactError: The plan has a type that the engine does not have.
    """
    planned = manifest.plan.get("kv_type", "float16") if manifest.plan.get("engine") == NativeEngine.name else "float16"
    if planned not in native.KV_TYPES:
        allowed = ", ".join(native.KV_TYPES)
        raise ArtifactError(f"{manifest.name}: plan.kv_type of the manifest is {planned!r}; allowed: {allowed}")
    return str(planned)


def _c_path(path: Path) -> bytes:
    """A path for the library, which would read it up to the first null character."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        raise EngineError(f"{str(path)!r} is not a path: the file system cannot express it") from None
    if b"\0" in encoded:
        raise EngineError(f"{str(path)!r} is not a path: it has a null character")
    return encoded


@contextmanager
def _all_locked(*engines: NativeEngine) -> Iterator[None]:
    """Keep other threads from several engines; in one order everywhere, so that two threads cannot wait for each other.

    Raises:
        EngineError: An engine is closed.
    """
    with ExitStack() as stack:
        for engine in sorted({id(engine): engine for engine in engines}.values(), key=id):
            stack.enter_context(engine._lock)
            engine._open()
        yield


ENGINE = NativeEngine
