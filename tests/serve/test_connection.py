"""Connections of a real server in this process, whose application answers at once."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("starlette", reason="needs the extra serve")
import uvicorn

from edgekit.serve import connection
from edgekit.serve.http import JsonResponse, while_connected

REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.3)


def serving(
    work: Callable[[Callable[[], Awaitable[Client]]], Awaitable[None]],
    most: int = 8,
    app: Any = JsonResponse({"status": "ok"}),  # noqa: B008
    both_families: bool = False,
) -> None:
    """Do some work with a server; it gets a function that connects."""

    async def run() -> None:
        made = connection.connections_of_at_most(most)
        config = uvicorn.Config(app, http=made, lifespan="off", ws="none", log_level="error")
        config.load()
        state = uvicorn.server.ServerState()
        loop = asyncio.get_running_loop()
        bound = (
            socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
            if both_families
            else socket.create_server(("127.0.0.1", 0))
        )
        server = await loop.create_server(lambda: made(config=config, server_state=state, app_state={}), sock=bound)
        port = server.sockets[0].getsockname()[1]
        async with server:
            await asyncio.wait_for(work(lambda: asyncio.open_connection("127.0.0.1", port)), 20)

    asyncio.run(run())


async def refusal(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]] | None:
    """The answer of a server that then closes the connection; None if the client was still sending and lost it."""
    try:
        found = await answer(reader)
        assert await reader.read() == b""
    except ConnectionResetError:
        return None
    return found


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    return int(head.split()[1]), json.loads(await reader.readexactly(int(fields[b"content-length"])))


def test_requests_on_one_connection_are_answered() -> None:
    async def work(connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        for _ in range(3):
            writer.write(REQUEST)
            assert await answer(reader) == (200, {"status": "ok"})
        writer.write(REQUEST * 2)  # the second one before the first is answered
        assert [await answer(reader), await answer(reader)] == [(200, {"status": "ok"})] * 2
        writer.close()

    serving(work)


@pytest.mark.parametrize("before", [0, 1], ids=["first request", "second request"])
def test_headers_that_trickle_in_end_the_connection(before: int) -> None:
    async def work(connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        for _ in range(before):
            writer.write(REQUEST)
            await answer(reader)
        arrived = asyncio.ensure_future(refusal(reader))
        for byte in REQUEST[:-1]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
            if arrived.done():
                break
        found = await arrived
        assert found is None or (found[0] == 408 and "headers did not arrive" in found[1]["error"]["message"])

    serving(work)


def test_a_connection_that_says_nothing_is_closed() -> None:
    async def work(connect: Callable[[], Awaitable[Client]]) -> None:
        reader, _ = await connect()
        assert (await answer(reader))[0] == 408
        assert await reader.read() == b""

    serving(work)


def test_a_connection_too_many_is_refused_and_the_others_go_on() -> None:
    async def work(connect: Callable[[], Awaitable[Client]]) -> None:
        first, second = await connect(), await connect()
        for _, writer in (first, second):
            writer.write(REQUEST)
        assert [(await answer(reader))[0] for reader, _ in (first, second)] == [200, 200]
        reader, _ = await connect()
        status, body = await answer(reader)
        assert (status, body["error"]["type"]) == (503, "server_error")
        assert "has 2 connections" in body["error"]["message"]
        first[1].close()
        await first[1].wait_closed()
        await asyncio.sleep(0.05)
        reader, writer = await connect()
        writer.write(REQUEST)
        assert (await answer(reader))[0] == 200

    serving(work, most=2)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/9.9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(100)),
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n",
    ],
    ids=["TLS", "a version", "a length", "headers of 100 kB", "two lengths"],
)
def test_what_is_not_http_is_refused(sent: bytes) -> None:
    async def work(connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        writer.write(sent)
        found = await refusal(reader)
        assert found is not None or len(sent) > 65536
        if found is not None:
            assert (found[0], found[1]["error"]["type"]) == (400, "invalid_request_error")
            assert "not a valid HTTP request" in found[1]["error"]["message"]

    serving(work)


@pytest.mark.parametrize("behind", [b"", b"GET /health HTTP/1.1\r\n", REQUEST, REQUEST * 500])
def test_a_client_that_leaves_is_noticed_whatever_it_has_sent(behind: bytes) -> None:
    ended: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        work = asyncio.ensure_future(asyncio.sleep(15))
        assert await while_connected(receive, asyncio.wait_for(work, 15)) is None  # type: ignore[func-returns-value]
        ended.append(work.cancelled())

    async def work(connect: Callable[[], Awaitable[Client]]) -> None:
        _, writer = await connect()
        writer.write(REQUEST)
        await asyncio.sleep(0.1)
        for at in range(0, len(behind), 4096):
            writer.write(behind[at : at + 4096])
            await asyncio.sleep(0.01)
        assert ended == []
        writer.close()
        for _ in range(100):
            if ended:
                break
            await asyncio.sleep(0.02)
        assert ended == [True]

    serving(work, app=app)


def test_what_is_read_ahead_is_bounded_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_AHEAD", 100)
    go_on: list[asyncio.Event] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on[0].wait()
        await JsonResponse({"status": "ok"})(scope, receive, send)

    async def work(connect: Callable[[], Awaitable[Client]]) -> None:
        go_on.append(asyncio.Event())
        reader, writer = await connect()
        for _ in range(20):
            writer.write(REQUEST)
            await asyncio.sleep(0.01)
        go_on[0].set()
        assert [await answer(reader) for _ in range(20)] == [(200, {"status": "ok"})] * 20
        writer.close()

    serving(work, app=app)


@pytest.mark.parametrize("reads", [False, True])
def test_a_client_that_reads_nothing_is_dropped_and_a_slow_one_is_not(
    reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SEND_TIMEOUT_S", 0.3)
    body = {"text": "x" * 20_000_000}  # more than the buffers of the system hold
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await JsonResponse(body)(scope, receive, send)
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.append(True)

    async def work(connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        writer.write(REQUEST)
        received = 0
        try:
            for _ in range(60):
                await asyncio.sleep(0.02)
                received += len(await reader.read(400_000)) if reads else 0
            while reads and received < 20_000_000 and (piece := await reader.read(1 << 20)):
                received += len(piece)
        except ConnectionResetError:
            assert not reads
        if reads:
            assert received > 20_000_000
        else:
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(20_000_000)
        writer.close()

    serving(work, app=app)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs a socket for both families")
def test_proxies_on_this_machine_are_trusted_on_a_socket_for_both_families() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await JsonResponse({"client": scope["client"][0]})(scope, receive, send)

    async def work(connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        writer.write(REQUEST)
        assert await answer(reader) == (200, {"client": "127.0.0.1"})
        writer.write(REQUEST.replace(b"Host", b"X-Forwarded-For: 192.0.2.7\r\nHost"))
        assert await answer(reader) == (200, {"client": "192.0.2.7"})
        writer.close()

    serving(work, app=app, both_families=True)


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("::ffff:192.0.2.1", 5), ("192.0.2.1", 5)),
        (("2001:db8::1", 5), ("2001:db8::1", 5)),
        (("192.0.2.1", 5), ("192.0.2.1", 5)),
        (("a path", 5), ("a path", 5)),
        (None, None),
    ],
)
def test_an_address_is_told_in_its_own_form(client: tuple[str, int] | None, expected: tuple[str, int] | None) -> None:
    assert connection._unmapped(client) == expected
