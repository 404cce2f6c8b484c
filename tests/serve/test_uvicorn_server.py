"""The end of a server: answers may go on for a moment, then end with an error, and nobody sees a traceback."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")
import uvicorn

from edgekit.serve import uvicorn_server
from edgekit.serve.uvicorn_server import Server

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Capture what uvicorn logs, also where another test's server has told it not to propagate that."""
    log = logging.getLogger("uvicorn.error")
    log.addHandler(caplog.handler)
    yield
    log.removeHandler(caplog.handler)
    log.removeFilter(uvicorn_server._is_unexpected)


class Slow:
    """An application whose answers go on until they are ended."""

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.threads: list[threading.Thread] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.set()
        await self.ended.wait()
        await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def end(self) -> None:
        self.threads.append(threading.current_thread())
        self._loop.call_soon_threadsafe(self.ended.set)


async def told_to_end(end_s: float, end_answers: Callable[[Slow], Callable[[], None]]) -> tuple[bytes, Slow]:
    """Tell a server to end while it answers; what the client gets."""
    app = Slow()
    config = uvicorn.Config(app, port=0, lifespan="off", ws="none", log_config=None)
    server = Server(config, end_s=end_s, end_answers=end_answers(app))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    writer.write(REQUEST)
    await app.begun.wait()
    server.should_exit = True
    try:
        found = await asyncio.wait_for(reader.read(), 20)
        await asyncio.wait_for(serving, 20)
    finally:
        writer.close()
    return found, app


def test_answers_that_go_on_are_ended_in_another_thread(caplog: pytest.LogCaptureFixture) -> None:
    found, app = asyncio.run(told_to_end(0.2, lambda app: app.end))
    assert found.startswith(b"HTTP/1.1 503")
    assert [thread is threading.main_thread() for thread in app.threads] == [False]
    assert "Traceback" not in caplog.text


def test_answers_that_end_by_themselves_are_not_ended() -> None:
    async def run() -> tuple[bytes, Slow]:
        asyncio.get_running_loop().call_later(0.5, lambda: apps[0].ended.set())
        return await told_to_end(30, remembered)

    apps: list[Slow] = []

    def remembered(app: Slow) -> Callable[[], None]:
        apps.append(app)
        return app.end

    found, app = asyncio.run(run())
    assert (found[:12], app.threads) == (b"HTTP/1.1 503", [])


def test_what_cannot_be_ended_is_cancelled_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(uvicorn_server, "_CANCEL_S", 0.2)
    found, _ = asyncio.run(told_to_end(0.1, lambda app: lambda: None))
    assert found.startswith(b"HTTP/1.1 500")
    assert "Traceback" not in caplog.text
    assert "graceful" not in caplog.text


def test_other_messages_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(told_to_end(0.1, lambda app: app.end))
    try:
        raise ValueError("a bug")
    except ValueError as error:
        logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    assert "ValueError: a bug" in caplog.text
