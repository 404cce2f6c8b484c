"""A session for asyncio: answers are generated in a thread, and pieces arrive through an async iterator.

    session = edgekit.AsyncSession(edgekit.load("smollm2-135m-cpu"))
    async for piece in session.chat([{"role": "user", "content": "What is the capital of France?"}]):
        print(piece.text, end="", flush=True)

The event loop never waits for the model. An answer ends when its iterator is closed, when the task that reads it is
cancelled, or when nobody refers to it any more: so a server stops computing when a client has left. Leaving the loop
over its pieces ends it only if no variable refers to it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from ..errors import EngineError
from ..sampling import Sampling
from .events import Answer, Done, Event, Thought
from .generation import Completion, Generation
from .history import OnFull
from .interruptible import OwnProcess
from .response_format import ResponseFormat
from .session import Session
from .thought import Piece
from .watch import LoopGuard

_END = None  # in a queue: there are no more pieces


class AsyncSession:
    """A :class:`~edgekit.Session` for asyncio. Answers are generated one after another, in the order of the calls.

    It is an async context manager that closes the session at its end.

    Args:
        session: The session. Do not use it directly as long as answers are generated.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgekit")
        self._closed = False
        self._process = OwnProcess("the session")

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str = "auto",
        documents: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stop_ids: Iterable[int] = (),
        logprobs: int | None = None,
        response_format: ResponseFormat | None = None,
        think_tokens: int | None = None,
        loop_guard: LoopGuard = "thought",
        on_full: OnFull = "error",
    ) -> AsyncGeneration:
        """Answer a conversation. Call it while an event loop runs.

        The arguments are those of :meth:`Session.chat <edgekit.runtime.session.Session.chat>`.

        Returns:
            An async iterator of :class:`~edgekit.Piece`. The answer starts at once. The first piece raises the errors
            of ``Session.chat``.

        Raises:
            EngineError: The session is closed.
        """
        kept = _kept(messages)
        return self._start(
            lambda: self._session.chat(
                kept,
                tools=tools,
                tool_choice=tool_choice,
                documents=documents,
                variables=variables,
                max_tokens=max_tokens,
                sampling=sampling,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                seed=seed,
                stop=stop,
                stop_ids=stop_ids,
                logprobs=logprobs,
                response_format=response_format,
                think_tokens=think_tokens,
                loop_guard=loop_guard,
                on_full=on_full,
            )
        )

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stop_ids: Iterable[int] = (),
        logprobs: int | None = None,
        response_format: ResponseFormat | None = None,
        loop_guard: LoopGuard = "thought",
    ) -> AsyncGeneration:
        """Continue a text. Call it while an event loop runs.

        The arguments are those of :meth:`Session.generate <edgekit.runtime.session.Session.generate>`.

        Returns:
            As for :meth:`chat`.

        Raises:
            EngineError: The session is closed.
        """
        kept = _kept(prompt)
        return self._start(
            lambda: self._session.generate(
                kept,
                max_tokens=max_tokens,
                sampling=sampling,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                seed=seed,
                stop=stop,
                stop_ids=stop_ids,
                logprobs=logprobs,
                response_format=response_format,
                loop_guard=loop_guard,
            )
        )

    def _start(self, begin: Callable[[], Generation]) -> AsyncGeneration:
        if self._closed:
            raise EngineError("cannot start an answer: the session is closed", hint="load the artifact again")
        self._process.require()
        run = _Run(begin, asyncio.get_running_loop())
        try:
            return AsyncGeneration(run, self._thread.submit(run.work))
        except RuntimeError as error:
            run.stop()  # the executor may keep it
            raise EngineError(
                f"cannot start an answer: {error}", hint="close other programs, or raise the limit"
            ) from None

    async def close(self) -> None:
        """Wait for the answers that have been started, and free the model. Closing twice is allowed."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown)
        self._session.close()

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _kept(given: Any) -> Any:
    """A copy of a list, which the caller may change while an answer waits for its turn; anything else unchanged."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, (str, bytes)) else given


class _Run:
    """What the thread of an answer and its iterator share. It must not refer to the iterator, which ends the answer
    when it is collected.

    Args:
        begin: Starts the answer; called in the thread.
        loop: The event loop that reads the pieces.
    """

    def __init__(self, begin: Callable[[], Generation], loop: asyncio.AbstractEventLoop) -> None:
        self.begin, self.loop = begin, loop
        self.pieces: asyncio.Queue[Piece | None] = asyncio.Queue()  # no limit: an answer is as short as the context
        self.stopped = threading.Event()
        self.generation: Generation | None = None

    def stop(self) -> None:
        """End the answer from any thread, also while its prompt is read. Returns at once."""
        self.stopped.set()
        if self.generation is not None:
            self.generation.cancel()

    def work(self) -> Completion | None:
        """Generate the answer; None if it was stopped before it began."""
        try:
            if self.stopped.is_set():
                return None
            generation = self.generation = self.begin()
            if self.stopped.is_set():  # perhaps before it could be cancelled
                generation.cancel()
            for piece in generation:
                self._send(piece)
                if self.stopped.is_set():
                    return generation.stop()
            return generation.completion
        finally:
            self._send(_END)

    def _send(self, piece: Piece | None) -> None:
        try:
            self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)
        except RuntimeError:  # the loop is closed: nobody will read
            self.stopped.set()


class AsyncGeneration(AsyncIterator[Piece]):
    """An async iterator over the pieces of an answer. :class:`AsyncSession` creates it.

    It can be used in ``async with``, which ends the answer when the block is left. Several tasks may read one answer:
    each piece goes to one of them, and ``complete`` returns the whole answer in each. When the last one that waits is
    cancelled, the answer ends.

    Args:
        run: The answer.
        result: Its result.
    """

    def __init__(self, run: _Run, result: Future[Completion | None]) -> None:
        self._run, self._result = run, result
        self._read_all = False
        self._readers = 0  # tasks that wait for a piece

    async def __anext__(self) -> Piece:
        if not self._read_all:
            self._readers += 1
            try:
                piece = await self._run.pieces.get()
            except asyncio.CancelledError:  # the task that reads was cancelled: the client has left
                if self._readers == 1:
                    self._stop()
                raise
            finally:
                self._readers -= 1
            if piece is not None:
                return piece
            self._read_all = True
            self._run.pieces.put_nowait(_END)  # for other tasks that wait
            await self._done()  # raises what the thread has raised
        raise StopAsyncIteration

    async def complete(self) -> Completion:
        """Read the rest of the answer and return the whole answer.

        Raises:
            EngineError: The answer was closed or cancelled before it began.
        """
        async for _ in self:
            pass
        completion = await self._done()
        if completion is None:
            raise EngineError("there is no answer: it was closed or cancelled before it began")
        return completion

    async def events(self) -> AsyncIterator[Event]:
        """Read the answer as events: ``Thought`` and ``Answer`` with text, each ``ToolCall``, then one ``Done``.

        Raises:
            EngineError: The answer was closed or cancelled before it began.
        """
        async for piece in self:
            yield Thought(piece.text) if piece.thought else Answer(piece.text)
        completion = await self.complete()
        for call in completion.tool_calls:
            yield call
        yield Done(completion)

    async def aclose(self) -> None:
        """End the answer. Returns when the model has stopped; ``complete`` then returns what has been generated.

        An answer that waits for its turn loses it at once.
        """
        self._stop()
        if self._result.cancel():  # its work has not begun, so nothing else ends the pieces
            self._run.pieces.put_nowait(_END)
        if self._result.cancelled():
            return
        result = asyncio.wrap_future(self._result)
        await asyncio.wait([result])
        result.exception()  # asyncio logs an error that nobody looks at

    async def __aenter__(self) -> AsyncGeneration:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _done(self) -> Completion | None:
        """What the thread returns or raises; None if the answer lost its turn."""
        if self._result.cancelled():
            return None
        return await asyncio.wrap_future(self._result)

    def __del__(self) -> None:
        self._stop()

    def _stop(self) -> None:
        self._run.stop()
