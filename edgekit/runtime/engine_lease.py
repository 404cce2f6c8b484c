"""A session's engine, which one answer at a time may use. It keeps the KV cache, and prepares the next prompt.

A session starts an answer by taking a :class:`Lease`. The lease ends when the next answer starts, another state is
loaded or the session is closed: what the engine holds then belongs to something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgekitError, EngineError
from .background import Background
from .engine import CancellableEngine, Engine, ResumableEngine
from .generation import superseded
from .interruptible import Turn
from .prefix_cache import PrefixCache, next_start


class LeasedEngine:
    """An engine with the KV cache of one conversation, for one call at a time.

    Every method except :meth:`cancel` raises an EngineError in a fork of the process that loaded the artifact.

    Args:
        engine: An open engine.
        prepares: Whether to prepare the next prompt between answers. Only engines that can be cancelled do.

    Attributes:
        prepares: Whether the next prompt is prepared.
        background: Runs the preparation.
    """

    def __init__(self, engine: Engine, *, prepares: bool) -> None:
        self.prepares = prepares and isinstance(engine, CancellableEngine)
        self.background = Background(self.cancel)
        self._engine = engine
        self._cache = PrefixCache(engine)
        self._turn = Turn("the session")
        self._lease: Lease | None = None  # the only one that is valid

    def require_own_process(self) -> None:
        """Check that this process has loaded the artifact.

        Raises:
            EngineError: This process is a fork of that one.
        """
        self._turn.require()

    def without_preparing(self) -> AbstractContextManager[None]:
        """Interrupt the preparation, and start none during the block."""
        return self.background.held_off()

    def lease(self) -> Lease:
        """Start an answer. All earlier leases end.

        Raises:
            SessionBusyError: Another call uses the engine.
        """
        with self._in_use():
            self._lease = Lease(self)
            return self._lease

    def cancel(self) -> None:
        """Make an evaluation in another thread end soon, if the engine can do that."""
        if isinstance(self._engine, CancellableEngine):
            self._engine.cancel()

    def save(self, path: Path) -> None:
        """Save the tokens and the KV cache; see ``Session.save_state``."""
        with self._in_use():
            self._resumable().save(path)

    def load(self, path: Path) -> None:
        """Replace the tokens and the KV cache by saved ones; see ``Session.load_state``."""
        engine = self._resumable()
        with self._in_use():
            self._lease = None
            self._cache.set([])
            try:
                engine.load(path)
            except EngineError:
                self._engine.rewind(0)
                raise
            self._cache.set(engine.tokens())

    def close(self) -> None:
        """Close the engine when the call that uses it has ended. Does nothing in a fork."""
        if self._turn.is_other:  # threads of the parent hold locks for ever, and engines wait for their threads
            return
        self._lease = None
        with self._in_use(while_waiting=self.cancel):
            self._cache.set([])
            self._engine.close()

    def _resumable(self) -> ResumableEngine:
        if not isinstance(self._engine, ResumableEngine):
            raise EngineError(
                f"the engine {self._engine.name} cannot save or load a session's state",
                hint="load the artifact with the native engine",
            )
        return self._engine

    @contextmanager
    def _in_use(self, while_waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Have the engine during the block: nothing is prepared meanwhile."""
        self._turn.require()
        with self.background.held_off(), self._turn.take(while_waiting):
            yield

    def _evaluate(self, lease: Lease, ids: Sequence[int], *, as_prompt: bool) -> NDArray[np.float32]:
        def check() -> None:
            if not lease.is_valid:
                raise superseded()

        with self._in_use(while_waiting=check):  # another thread may have begun to save the state
            check()
            return self._cache.prompt(ids) if as_prompt else self._cache.append(ids)

    def _prepare(self, lease: Lease, encode: Callable[[str], list[int]]) -> None:
        def work(go_on: Callable[[], bool]) -> None:
            with suppress(EdgekitError, ValueError):  # the next answer reports what is wrong
                start = next_start(encode)
                with self._turn.take():
                    if lease.is_valid:
                        self._cache.prepare(start, go_on)

        if lease.is_valid:
            self.background.start(work)


class Lease:
    """The right of one answer to use the engine. :meth:`LeasedEngine.lease` creates it.

    Args:
        leased: The engine.
    """

    def __init__(self, leased: LeasedEngine) -> None:
        self._leased = leased

    @property
    def is_valid(self) -> bool:
        """Whether the lease has not ended."""
        return self._leased._lease is self

    def prompt(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Make these ids the engine's sequence; those that it holds already are not evaluated again.

        Waits while another thread uses the engine.

        Returns:
            Logits of the last id, float32 (vocab_size,).

        Raises:
            EngineError: The lease has ended.
            SessionBusyError: A signal handler has interrupted a call that uses the engine.
        """
        return self._leased._evaluate(self, ids, as_prompt=True)

    def append(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Evaluate ids behind those that the engine holds; returns and raises what :meth:`prompt` does."""
        return self._leased._evaluate(self, ids, as_prompt=False)

    def prepare(self, encode: Callable[[str], list[int]]) -> None:
        """While the answer is read, evaluate what the next prompt begins with, unless the lease has ended.

        Args:
            encode: Returns the ids of the prompt that a question makes.
        """
        self._leased._prepare(self, encode)
