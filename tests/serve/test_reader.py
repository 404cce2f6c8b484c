from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edgekit.errors import EngineError
from edgekit.runtime.thought import Piece
from edgekit.serve.job import Begun, Ended, Text
from edgekit.serve.reader import Reader
from edgekit.serve.request_error import RequestError

ENDED = Ended("stop", 1, 0, 1, 0)
JOBS: list[Any] = ["first", "second"]


def test_the_second_answer_begins_when_the_first_has_read_the_prompt() -> None:
    async def run() -> tuple[list[Any], list[Any]]:
        submitted: list[Any] = []
        reader = Reader(2, submitted.append, lambda job: None)
        first, second = reader.emits
        reader.start(JOBS)
        before = list(submitted)
        first(Begun())
        first(Text([Piece("a")]))
        first(ENDED)
        second(Begun())
        second(Text([Piece("b")]))
        second(ENDED)
        found = await reader.whole()
        assert submitted == JOBS
        return before, [text.pieces[0].text for texts, _ in found for text in texts]

    assert asyncio.run(run()) == (["first"], ["a", "b"])


def test_a_queue_without_room_for_the_others_is_an_error() -> None:
    async def run() -> None:
        def submit(job: Any) -> None:
            if job == "second":
                raise RequestError("full", status=429)

        reader = Reader(2, submit, lambda job: None)
        reader.start(JOBS)
        reader.emits[0](Begun())
        await reader.whole()

    with pytest.raises(RequestError, match="full"):
        asyncio.run(run())


def test_all_answers_end_if_the_first_ends_while_it_reads_the_prompt() -> None:
    async def run() -> tuple[list[Any], list[Any]]:
        submitted: list[Any] = []
        reader = Reader(3, submitted.append, lambda job: None)
        reader.start(["first", "second", "third"])  # type: ignore[list-item]
        reader.emits[0](Ended("interrupted", 9, 2, 0, 0))
        found = await asyncio.wait_for(reader.whole(), 30)
        return submitted, [ended for _, ended in found]

    submitted, ends = asyncio.run(run())
    assert submitted == ["first"]
    assert ends == [Ended("interrupted", 9, 2, 0, 0), *[Ended("interrupted", 9, 9, 0, 0)] * 2]


def test_nothing_comes_for_a_while() -> None:
    async def run() -> list[Any]:
        reader = Reader(1, lambda job: None, lambda job: None)
        events = reader.events(0.01)
        quiet = await events.__anext__()
        reader.emits[0](ENDED)
        return [quiet, *[event async for event in events]]

    assert asyncio.run(run()) == [None, (0, ENDED)]


@pytest.mark.parametrize("error", [EngineError("no"), RequestError("no", status=503)])
def test_a_failure_is_raised(error: Any) -> None:
    async def run() -> None:
        reader = Reader(1, lambda job: None, lambda job: None)
        reader.emits[0](error)
        await reader.whole()

    with pytest.raises(RequestError, match="no"):
        asyncio.run(run())


def test_all_answers_are_given_up() -> None:
    async def run() -> list[Any]:
        cancelled: list[Any] = []
        reader = Reader(2, lambda job: None, cancelled.append)
        reader.start(JOBS)
        reader.close()
        return cancelled

    assert asyncio.run(run()) == JOBS
