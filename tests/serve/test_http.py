from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from asgi_client import request, send

from edgekit.serve import http
from edgekit.serve.http import EventStream, JsonResponse, while_connected
from edgekit.serve.request_error import RequestError


async def numbers(count: int) -> AsyncIterator[bytes]:
    for i in range(count):
        yield f"data: {i}\n\n".encode()
        await asyncio.sleep(0)


def test_json_and_errors() -> None:
    found = request(JsonResponse({"a": "é\ud800"}), "GET", "/")
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    assert int(found.headers["content-length"]) == len(found.body)
    refused = request(JsonResponse.of_error(RequestError("no", status=429, headers={"retry-after": "3"})), "GET", "/")
    assert (refused.status, refused.headers["retry-after"], refused.error["message"]) == (429, "3", "no")


def test_a_stream_is_sent_to_its_end() -> None:
    closed: list[bool] = []
    found = request(EventStream(numbers(3), lambda: closed.append(True)), "GET", "/")
    assert found.events == [0, 1, 2]
    assert found.headers["content-type"].startswith("text/event-stream")
    assert closed == [True]


def test_a_stream_ends_when_the_client_leaves() -> None:
    closed: list[bool] = []
    stream = EventStream(numbers(1_000_000), lambda: closed.append(True))
    found = asyncio.run(asyncio.wait_for(send(stream, "GET", "/", leave_after=3), 10))
    assert 3 <= len(found.events) < 100
    assert closed == [True]


def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SEND_TIMEOUT_S", 0.01)
    closed: list[bool] = []

    async def run() -> None:
        async def receive() -> dict[str, object]:
            return await asyncio.Future()

        async def take(message: object) -> None:
            if isinstance(message, dict) and message["type"] == "http.response.body":
                await asyncio.Future()

        await EventStream(numbers(3), lambda: closed.append(True))({}, receive, take)

    asyncio.run(asyncio.wait_for(run(), 10))
    assert closed == [True]


def test_work_is_cancelled_when_the_client_leaves() -> None:
    async def run() -> object:
        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        return await while_connected(receive, asyncio.sleep(100, "done"))

    assert asyncio.run(run()) is None
