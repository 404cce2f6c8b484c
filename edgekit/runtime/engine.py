"""What an engine is, and how one is found: the file ``NAME_engine.py`` is the engine ``NAME``; there is no other list.

An engine turns token ids into logits and keeps the KV cache of one sequence. It knows nothing of text.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import Manifest
from ..errors import ContextLengthError, EngineError, TokenRangeError, UnknownNameError, nearest

DEFAULT_CONTEXT = 4096  # positions, when neither the caller nor the artifact's plan names a context
KV_TYPES = ("float16", "int8")
_SUFFIX = "_engine"


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine.

    Args:
        context: Positions the KV cache holds, or None for the artifact's planned context.
        threads: Threads for the arithmetic, or None for one per physical core this process may use.
        all_logits: :meth:`Engine.evaluate` returns a row for every position, not just for the last.
        kv_type: What keys and values are kept in, ``float16`` or ``int8``; None for what the engine keeps by itself.

    Raises:
        ValueError: A count below 1, or an unknown type.
    """

    context: int | None = None
    threads: int | None = None
    all_logits: bool = False
    kv_type: str | None = None

    def __post_init__(self) -> None:
        for name in ("context", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.kv_type is not None and self.kv_type not in KV_TYPES:
            raise ValueError(f"kv_type is {self.kv_type!r}; allowed: {', '.join(KV_TYPES)}")


class Engine(Protocol):
    """One model with one KV cache. Not safe for use from two threads at once.

    Attributes:
        name: The engine's name: ``ort``, ``native``.
        kernel: Which arithmetic runs, for a person: library, version, provider or instruction set.
        threads: Threads of the arithmetic.
        vocab_size: Columns of the logits; allowed ids are 0 to ``vocab_size - 1``.
        context: Positions the KV cache holds.
        kv_type: What keys and values are kept in: ``float32``, ``float16`` or ``int8``.
        cache_bytes: Size of the KV cache with every position in use; pages of unused ones may not be resident yet.
        position: Positions in use; the next id is evaluated at this one.
    """

    name: str
    kernel: str
    threads: int
    vocab_size: int
    context: int
    kv_type: str
    cache_bytes: int
    position: int

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Append ids to the sequence.

        Args:
            ids: At least one token id.

        Returns:
            Logits, float32 (1, vocab_size) of the last position, or (len(ids), vocab_size) with ``all_logits``.
            The array is the caller's to keep.

        Raises:
            TokenRangeError: An id outside the vocabulary; the cache is as before.
            ContextLengthError: The ids do not fit into the context; the cache is as before.
            EngineError: The arithmetic failed, or the engine is closed.
        """
        ...

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on (0 to ``position``); costs nothing."""
        ...

    def close(self) -> None:
        """Free the model and the cache. Closing twice is allowed."""
        ...


@runtime_checkable
class ResumableEngine(Protocol):
    """What an engine offers beside :class:`Engine` when its sequence can go to a file and come back."""

    def tokens(self) -> list[int]:
        """The ids evaluated so far."""
        ...

    def save(self, path: Path) -> None:
        """Write the sequence, ids with keys and values.

        Raises:
            EngineError: The file cannot be written, or the engine is closed.
        """
        ...

    def load(self, path: Path) -> None:
        """Go on from a file that :meth:`save` wrote, in place of the present sequence.

        Raises:
            EngineError: It is no such file, or of another model or another type of keys and values.
            ContextLengthError: It holds more positions than the context.
        """
        ...


class EngineClass(Protocol):
    """What ``NAME_engine.py`` offers as ``ENGINE``: a class that can open an artifact."""

    def open(self, folder: Path, manifest: Manifest, options: EngineOptions) -> Engine: ...


def engines() -> tuple[str, ...]:
    """The names of the engines, sorted."""
    package = importlib.import_module(__package__)
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def open_engine(folder: Path, manifest: Manifest, options: EngineOptions, name: str = "auto") -> Engine:
    """Open an artifact.

    Args:
        folder: The artifact.
        manifest: Its manifest.
        options: Context, threads, which logits.
        name: An engine's name, or ``auto`` for what :func:`choose_engine` says.

    Raises:
        UnknownNameError: No such engine.
        ContextLengthError: The context asked for is longer than the model's.
        EngineError: The engine cannot load the artifact.
    """
    known = engines()
    if name == "auto":
        name = choose_engine(manifest)
    if name not in known:
        raise UnknownNameError(f"there is no engine {name!r}", hint=nearest(name, ("auto", *known)))
    return cast(EngineClass, _module(name).ENGINE).open(folder, manifest, options)


def choose_engine(manifest: Manifest) -> str:
    """The engine that ``auto`` takes for an artifact on this machine.

    Args:
        manifest: The artifact's.

    Returns:
        ``native`` for a quantized artifact, which is what it can run. ``ort`` for any other, and for one built for
        CUDA, whose activations are float16, where onnxruntime has CUDA to run it on.
    """
    if not all(manifest.quantization.get(part) for part in ("linear", "embedding", "lm_head")):
        return "ort"
    # onnxruntime takes long to import: it is asked about CUDA only where the answer matters.
    if manifest.activation_type == "float16" and _module("ort").has_cuda():
        return "ort"
    return "native"


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}{_SUFFIX}")


def resolve_context(manifest: Manifest, context: int | None) -> int:
    """The context to allocate: what is asked for, else what the build planned, within what the model knows.

    Args:
        manifest: The artifact's manifest.
        context: Positions asked for, or None.

    Raises:
        ContextLengthError: More is asked for than the graph holds; both numbers are named.
    """
    longest = int(manifest.model["context_length"])
    if context is None:
        return min(int(manifest.plan.get("context") or DEFAULT_CONTEXT), longest)
    if context > longest:
        raise ContextLengthError(
            f"a context of {context} positions was asked for; {manifest.name} holds at most {longest}",
            hint=f"ask for a context of {longest} or less",
        )
    return context


def check_ids(ids: Sequence[int], *, vocab_size: int, position: int, context: int) -> NDArray[np.int64]:
    """What every engine checks before it computes.

    Returns:
        The ids, int64 (len(ids),).

    Raises:
        EngineError: No ids.
        TokenRangeError: An id outside the vocabulary.
        ContextLengthError: The ids do not fit.
    """
    array = np.asarray(ids)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise EngineError(f"evaluate needs a sequence of at least one token id, not {array.dtype} {array.shape}")
    outside = array[(array < 0) | (array >= vocab_size)]
    if outside.size:
        raise TokenRangeError(f"token id {int(outside[0])} is outside the vocabulary of {vocab_size} ids")
    if position + array.size > context:
        raise ContextLengthError(
            f"{array.size} tokens after {position} make {position + array.size}; the context holds {context} positions",
            hint="open the artifact with a larger context, or shorten the prompt",
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def check_rewind(length: int, position: int) -> int:
    """``length`` when the sequence can be rewound to it.

    Raises:
        EngineError: It is negative or beyond the present position.
    """
    if not 0 <= length <= position:
        raise EngineError(f"cannot rewind to position {length}; the sequence has {position}")
    return length
