"""The interface of an engine, and how engines are found: ``NAME_engine.py`` holds the engine ``NAME``.

There is no other list of engines. An engine turns token ids into logits and holds the KV cache of one sequence. It does
not handle text. ``planning/engines/NAME.py`` describes the engine's memory and speed for planning.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..arguments import check_count
from ..artifact.manifest import RuntimeFacts
from ..errors import (
    AcceleratorError,
    ArtifactError,
    ContextLengthError,
    EngineError,
    EngineFallbackWarning,
    TokenRangeError,
    UnknownNameError,
    nearest,
)
from ..scheme import KV_TYPES

DEFAULT_CONTEXT = 4096  # positions, when neither the caller nor the artifact's plan sets a context
_SUFFIX = "_engine"


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine.

    Args:
        context: Positions of the KV cache; None for the artifact's planned context.
        threads: Threads of the arithmetic; None for one per physical core this process may use.
        all_logits: :meth:`Engine.evaluate` returns a row for every position, not just for the last one.
        kv_type: Type of keys and values, ``float16`` or ``int8``; None for the type of the artifact's plan if that is
            for this engine, otherwise the engine's default.
        speculate: Whether an engine that can may guess tokens and evaluate them ahead; see :class:`SpeculatingEngine`.

    Raises:
        ValueError: A count is not a whole number or below 1, or the type is unknown.
    """

    context: int | None = None
    threads: int | None = None
    all_logits: bool = False
    kv_type: str | None = None
    speculate: bool = False

    def __post_init__(self) -> None:
        for name in ("context", "threads"):
            value = getattr(self, name)
            if value is not None:
                check_count(name, value)
        if self.kv_type is not None and self.kv_type not in KV_TYPES:
            raise ValueError(f"kv_type is {self.kv_type!r}; allowed: {', '.join(KV_TYPES)}")


class Engine(Protocol):
    """One model with one KV cache. Not safe for use from two threads at once.

    Attributes:
        name: The engine's name.
        kernel: The arithmetic that runs, for people: library, version, provider or instruction set.
        on_processor: Whether the processor does the arithmetic, whose limits ``edgekit probe`` measures.
        threads: Threads of the arithmetic.
        vocab_size: Columns of the logits; allowed ids are 0 to ``vocab_size - 1``.
        context: Positions of the KV cache.
        kv_type: Type of keys and values: ``float32``, ``float16`` or ``int8``.
        cache_bytes: Size of the KV cache with every position in use; pages of unused positions may not be resident.
        position: Positions in use; the next id is evaluated at this one.
    """

    name: str
    kernel: str
    on_processor: bool
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
            The caller owns the array.

        Raises:
            TokenRangeError: An id is outside the vocabulary. The cache is unchanged.
            ContextLengthError: The ids do not fit into the context. The cache is unchanged.
            EngineError: The arithmetic failed, or the engine is closed.
            EvaluationCancelledError: See :class:`CancellableEngine`. The cache is unchanged.
        """
        ...

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on (0 to ``position``). This is free.

        Raises:
            EngineError: The sequence is shorter, or the engine is closed.
        """
        ...

    def close(self) -> None:
        """Free the model and the cache. May be called more than once."""
        ...


@runtime_checkable
class ResumableEngine(Protocol):
    """The additional methods of an :class:`Engine` whose sequence can be saved to a file."""

    def tokens(self) -> list[int]:
        """The ids that have been evaluated.

        Raises:
            EngineError: The engine is closed.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the sequence: ids, keys and values.

        Raises:
            EngineError: The file cannot be written, or the engine is closed.
        """
        ...

    def load(self, path: Path) -> None:
        """Replace the sequence with one that :meth:`save` wrote.

        Raises:
            EngineError: The file is not a saved sequence, or is from another model or type of KV cache.
            ContextLengthError: The file holds more positions than the context.
        """
        ...


@runtime_checkable
class CancellableEngine(Protocol):
    """The additional method of an :class:`Engine` whose evaluation can be ended from another thread."""

    def cancel(self) -> None:
        """End the evaluation that runs at the moment, which raises EvaluationCancelledError and changes nothing.

        Returns at once. Does nothing if nothing is evaluated; later evaluations are not affected.
        """
        ...


@runtime_checkable
class SpeculatingEngine(Protocol):
    """The additional method of an :class:`Engine` that can evaluate tokens ahead.

    It guesses the next tokens from what followed the same tokens earlier in its sequence, and evaluates them together
    with the current one. Logits are the same bits with and without.
    """

    def accepted(self) -> int:
        """How many tokens did not have to be evaluated, because they had been guessed."""
        ...


class EngineClass(Protocol):
    """The class that ``NAME_engine.py`` offers as ``ENGINE``. Importing that file must be cheap."""

    def can_run(self, manifest: RuntimeFacts) -> bool:
        """Whether the engine supports this kind of artifact. Must be cheap: ``auto`` asks every engine."""
        ...

    def preference(self, manifest: RuntimeFacts) -> int:
        """How well the engine suits this artifact on this machine; ``auto`` takes the highest, and none below 0.

        Called only when several engines can run the artifact, so it may import a large library.
        """
        ...

    def open(self, folder: Path, manifest: RuntimeFacts, options: EngineOptions) -> Engine:
        """Open an artifact; see :func:`open_engine`."""
        ...


def engines() -> tuple[str, ...]:
    """The names of the engines, sorted."""
    package = importlib.import_module(__package__)
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def open_engine(folder: Path, manifest: RuntimeFacts, options: EngineOptions, name: str = "auto") -> Engine:
    """Open an artifact.

    Args:
        folder: The artifact.
        manifest: Its manifest.
        options: Context, threads, type of KV cache and which logits to return.
        name: An engine's name, or ``auto`` for the first that works of those that :func:`ranked_engines` returns. An
            accelerator that does not work is reported as an :class:`~edgekit.errors.EngineFallbackWarning`.

    Raises:
        UnknownNameError: There is no such engine.
        ContextLengthError: The requested context is longer than the model's.
        AcceleratorError: The named engine's accelerator cannot be used.
        EngineError: The engine cannot load the artifact.
        ArtifactError: It is a web folder, whose model only browsers open.
    """
    refuse_web_folder(folder)
    known = engines()
    if name == "auto":
        return _open_first(folder, manifest, options, ranked_engines(manifest))
    if name not in known:
        raise UnknownNameError(f"there is no engine {name!r}", hint=nearest(str(name), ("auto", *known)))
    return engine_class(name).open(folder, manifest, options)


def refuse_web_folder(folder: Path) -> None:
    """Refuse a folder that ``--emit web`` wrote, whose model only browsers open.

    Raises:
        ArtifactError: It is one.
    """
    if (folder / "onnx").is_dir() and not (folder / "model.onnx").exists():
        raise ArtifactError(
            f"{folder} is a folder for a browser", hint="use the artifact that it was written with; it lies beside it"
        )


def _open_first(folder: Path, manifest: RuntimeFacts, options: EngineOptions, names: Sequence[str]) -> Engine:
    """Open with the first of these engines whose accelerator works; the last one's error is raised."""
    *others, last = names
    for name, following in zip(others, names[1:], strict=True):
        try:
            return engine_class(name).open(folder, manifest, options)
        except AcceleratorError as error:
            text = f"the engine {name} is not used, but {following}: {error.message}"
            warnings.warn(text, EngineFallbackWarning, stacklevel=2)
    return engine_class(last).open(folder, manifest, options)


def ranked_engines(manifest: RuntimeFacts) -> tuple[str, ...]:
    """The engines that ``auto`` tries for an artifact on this machine, the preferred one first.

    Args:
        manifest: The artifact's manifest.

    Raises:
        EngineError: No engine can run the artifact.
    """
    able = [name for name in engines() if engine_class(name).can_run(manifest)]
    if not able:
        raise EngineError(f"no engine can run {manifest.name}; tried: {', '.join(engines())}")
    if len(able) == 1:
        return tuple(able)
    preferences = {name: engine_class(name).preference(manifest) for name in able}
    wanted = [name for name in able if preferences[name] >= 0] or able
    return tuple(sorted(wanted, key=lambda name: -preferences[name]))


def choose_engine(manifest: RuntimeFacts) -> str:
    """The engine that ``auto`` tries first; see :func:`ranked_engines`."""
    return ranked_engines(manifest)[0]


def engine_class(name: str) -> EngineClass:
    return cast(EngineClass, importlib.import_module(f"{__package__}.{name}{_SUFFIX}").ENGINE)


def resolve_context(manifest: RuntimeFacts, context: int | None) -> int:
    """The context to allocate: the one requested, otherwise the one the build planned, at most the model's.

    Args:
        manifest: The artifact's manifest.
        context: Requested positions, or None.

    Raises:
        ContextLengthError: More positions are requested than the graph supports; names both numbers.
    """
    longest = int(manifest.model["context_length"])
    if context is None:
        return min(int(manifest.plan.get("context") or DEFAULT_CONTEXT), longest)
    if context > longest:
        raise ContextLengthError(
            f"a context of {context} positions was requested; {manifest.name} holds at most {longest}",
            hint=f"ask for a context of {longest} or less",
        )
    return context


def check_ids(ids: Sequence[int], *, vocab_size: int, position: int, context: int) -> NDArray[np.int64]:
    """Check ids before they are evaluated.

    Returns:
        The ids, int64 (len(ids),).

    Raises:
        EngineError: There are no ids.
        TokenRangeError: An id is outside the vocabulary.
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
    """Check that a sequence can be rewound to ``length``, and return it.

    Raises:
        EngineError: ``length`` is negative or beyond the position.
    """
    if not 0 <= length <= position:
        raise EngineError(f"cannot rewind to position {length}; the sequence has {position}")
    return length
