"""Answers in asyncio: the same pieces, a loop that goes on, and answers that end when nobody reads them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import edgekit
from edgekit.errors import EngineError
from edgekit.sampling import Sampling

QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]


class Endless(Iterator[edgekit.Piece]):
    """A generation that ends only when it is stopped. Its second piece waits for ``gate`` or to be cancelled."""

    def __init__(self) -> None:
        self.gate, self.stopped = threading.Event(), threading.Event()
        self.count = 0

    def __next__(self) -> edgekit.Piece:
        self.count += 1
        if self.count > 1:
            assert self.gate.wait(60)
        return edgekit.Piece("x")

    def cancel(self) -> None:
        self.gate.set()

    def stop(self) -> edgekit.Completion:
        self.stopped.set()
        return edgekit.Completion("", "", "", [0] * self.count, [1], "interrupted", 0.0, None)


class Stub:
    """A session whose answers are endless."""

    def __init__(self) -> None:
        self.answers: list[Endless] = []
        self.closed = False

    def chat(self, messages: Any, **options: Any) -> Endless:
        self.answers.append(Endless())
        return self.answers[-1]

    def close(self) -> None:
        self.closed = True


def session_of(stub: Stub) -> edgekit.AsyncSession:
    return edgekit.AsyncSession(cast("edgekit.Session", stub))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_the_pieces_are_those_of_the_session(built_artifact: Path) -> None:
    options: dict[str, Any] = {"max_tokens": 12, "sampling": Sampling(temperature=0)}
    with edgekit.load(built_artifact, context=96) as session:
        expected = list(session.chat(QUESTION, **options))

    async def main() -> None:
        async with edgekit.AsyncSession(edgekit.load(built_artifact, context=96)) as session:
            answer = session.chat(QUESTION, **options)
            assert [piece async for piece in answer] == expected
            assert (await answer.complete()).answer == "".join(piece.text for piece in expected)
            assert len((await session.generate([1, 2, 3], max_tokens=2).complete()).tokens) <= 2

    run(main())


def test_the_loop_goes_on_while_the_model_works() -> None:
    async def main() -> None:
        stub = Stub()
        session = session_of(stub)
        answer = session.chat(QUESTION)
        assert (await answer.__anext__()).text == "x"
        waiting = asyncio.ensure_future(answer.__anext__())
        await asyncio.sleep(0)  # the model is in the second token; if it blocked the loop, nobody would open the gate
        stub.answers[0].gate.set()
        assert (await waiting).text == "x"
        await answer.aclose()
        assert stub.answers[0].stopped.is_set()
        assert (await answer.complete()).finish_reason == "interrupted"
        await session.close()
        assert stub.closed

    run(main())


@pytest.mark.parametrize("way", ["cancel", "break", "with"])
def test_an_answer_ends_when_nobody_reads_it(way: str) -> None:
    async def read(session: edgekit.AsyncSession, first: asyncio.Event) -> None:
        if way == "with":
            async with session.chat(QUESTION) as answer:
                await answer.__anext__()
                first.set()
            return
        async for _ in session.chat(QUESTION):
            first.set()
            if way == "break":
                break

    async def main() -> None:
        stub, first = Stub(), asyncio.Event()
        session = session_of(stub)
        task = asyncio.create_task(read(session, first))
        await first.wait()
        if way == "cancel":
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await asyncio.to_thread(stub.answers[0].stopped.wait, 60)
        await session.close()

    run(main())


def test_answers_wait_for_their_turn_and_may_be_closed_before_it() -> None:
    async def main() -> None:
        stub = Stub()
        session = session_of(stub)
        first, second, third = (session.chat(QUESTION) for _ in range(3))
        await first.__anext__()
        assert len(stub.answers) == 1
        waiting = asyncio.ensure_future(second.complete())
        await asyncio.sleep(0)  # lets it begin
        await second.aclose()  # while the model is in the first answer, whose gate nobody has opened
        await second.aclose()
        async with third:
            pass
        for closed in (waiting, second.complete(), third.complete()):
            with pytest.raises(EngineError, match="closed or cancelled before it began"):
                await closed
        assert [piece async for piece in second] == []
        stub.answers[0].gate.set()
        await first.aclose()
        assert len(stub.answers) == 1
        await session.close()

    run(main())


def test_several_tasks_may_wait_for_one_answer(built_artifact: Path) -> None:
    async def main() -> None:
        async with edgekit.AsyncSession(edgekit.load(built_artifact, context=96)) as session:
            answer = session.chat(QUESTION, max_tokens=4)
            one, two, three = await asyncio.gather(answer.complete(), answer.complete(), answer.complete())
            assert one is two
            assert two is three
            refused = session.chat(QUESTION, max_tokens=0)
            found = await asyncio.gather(refused.complete(), refused.complete(), return_exceptions=True)
            assert [type(error) for error in found] == [ValueError, ValueError]

    run(main())


def test_an_answer_goes_on_until_its_last_reader_is_cancelled() -> None:
    async def main() -> None:
        stub = Stub()
        session = session_of(stub)
        answer = session.chat(QUESTION)
        await anext(answer)
        readers = [asyncio.ensure_future(answer.complete()) for _ in range(2)]
        await asyncio.sleep(0)
        for reader, ended in zip(readers, (False, True), strict=True):
            reader.cancel()
            await asyncio.wait([reader])
            assert stub.answers[0].gate.is_set() == ended
        await session.close()

    run(main())


def test_an_answer_goes_on_when_only_its_loop_is_left() -> None:
    async def main() -> None:
        stub = Stub()
        session = session_of(stub)
        answer = session.chat(QUESTION)
        async for _ in answer:
            break
        assert not stub.answers[0].gate.is_set()  # nobody has cancelled it
        await answer.aclose()
        assert stub.answers[0].stopped.is_set()
        await session.close()

    run(main())


def test_lists_may_change_while_an_answer_waits(built_artifact: Path) -> None:
    async def main() -> None:
        async with edgekit.AsyncSession(edgekit.load(built_artifact, context=96)) as session:
            ids, messages = [1, 2, 3], list(QUESTION)
            first = session.chat(QUESTION, max_tokens=20)
            answers = session.generate(ids, max_tokens=1), session.chat(messages, max_tokens=1)
            expected = session.chat(QUESTION, max_tokens=1)
            ids.append(4)
            messages.append({"role": "user", "content": "And 3 + 3?"})
            await first.complete()
            assert (await answers[0].complete()).prompt_tokens == [1, 2, 3]
            assert (await answers[1].complete()).prompt_tokens == (await expected.complete()).prompt_tokens

    run(main())


def test_errors_arrive_with_the_first_piece(built_artifact: Path) -> None:
    async def main() -> None:
        session = edgekit.AsyncSession(edgekit.load(built_artifact, context=96))
        with pytest.raises(ValueError, match="max_tokens is 0"):
            await session.chat(QUESTION, max_tokens=0).complete()
        for messages in (None, QUESTION[0], "What is 2 + 2?", 5):
            answer = session.chat(messages)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=r"messages must be a list of dictionaries; got (None|\{|'What|5)"):
                await answer.complete()
        assert len((await session.chat(QUESTION, max_tokens=1).complete()).tokens) == 1
        await session.close()
        await session.close()
        with pytest.raises(EngineError, match="the session is closed"):
            session.chat(QUESTION)

    run(main())
