"""Brings the events of a request's answers from the scheduler's thread to the event loop.

All answers of one request begin with the same prompt. The first one reads it; the others are submitted when that is
done, so that they copy its cache. The scheduler's thread submits them, before the first one can end. If the first one
ends before its prompt has been read, because its time is up, so do the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ..errors import EdgekitError
from .job import Begun, Ended, Event, Job, Text, Whole
from .request_error import RequestError, request_error

Emit = Callable[[Event], None]


class Reader:
    """Reads the answers of one request, in the event loop.

    Args:
        choices: How many there are.
        submit: Puts a job into the queue; raises a RequestError if it is full.
        cancel: Gives a job up.
    """

    def __init__(self, choices: int, submit: Callable[[Job], None], cancel: Callable[[Job], None]) -> None:
        self.ended: list[Ended] = []
        self._choices, self._submit, self._cancel = choices, submit, cancel
        self._jobs: Sequence[Job] = ()
        self._begun = False  # whether the first answer's prompt has been read
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event] | None] = asyncio.Queue()

    @property
    def emits(self) -> list[Emit]:
        """For the jobs, one for each answer. May be called from any thread."""
        return [partial(self._emit, number) for number in range(self._choices)]

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit the jobs, the first one now.

        Raises:
            RequestError: The queue is full.
        """
        self._jobs = jobs
        self._submit(jobs[0])

    def close(self) -> None:
        """Give up what has not ended."""
        for job in self._jobs:
            self._cancel(job)
        self._jobs = ()  # each refers to this reader; what a job holds is freed with it, not by the garbage collector

    async def events(self, quiet_s: float | None = None) -> AsyncIterator[tuple[int, Text | Ended] | None]:
        """The events, each with the number of its answer, until all answers have ended.

        Args:
            quiet_s: After so many seconds without an event comes None.

        Raises:
            RequestError: An answer has failed.
        """
        while len(self.ended) < self._choices:
            found = await self._next(quiet_s)
            if found is None:
                yield None
                continue
            number, event = found
            if isinstance(event, EdgekitError):
                raise request_error(event)
            if isinstance(event, RequestError):
                raise event
            if isinstance(event, Ended):
                self.ended.append(event)
            if not isinstance(event, Begun):
                yield number, event

    async def whole(self) -> list[Whole]:
        """Each answer's texts and end.

        Raises:
            RequestError: An answer has failed.
        """
        texts: list[list[Text]] = [[] for _ in range(self._choices)]
        ends: dict[int, Ended] = {}
        async for found in self.events():
            if found is None:
                continue
            number, event = found
            if isinstance(event, Ended):
                ends[number] = event
            else:
                texts[number].append(event)
        return [(each, ends[number]) for number, each in enumerate(texts)]

    def _emit(self, number: int, event: Event) -> None:
        if isinstance(event, Begun):
            if number == 0:
                self._begun = True
                self._submit_others()
            return
        self._put(number, event)
        if number == 0 and isinstance(event, Ended) and not self._begun:
            for other in range(1, self._choices):
                self._put(other, replace(event, cached_tokens=event.prompt_tokens))

    def _put(self, number: int, event: Event) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it the request
            self._loop.call_soon_threadsafe(self._events.put_nowait, (number, event))

    def _submit_others(self) -> None:
        try:
            for job in self._jobs[1:]:
                self._submit(job)
        except RequestError as error:
            self._emit(0, error)

    async def _next(self, quiet_s: float | None) -> tuple[int, Event] | None:
        quiet = None
        if quiet_s is not None and self._events.empty():
            quiet = self._loop.call_later(quiet_s, self._events.put_nowait, None)
        try:
            return await self._events.get()
        finally:
            if quiet is not None:
                quiet.cancel()
