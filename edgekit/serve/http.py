"""Responses as ASGI applications, and the end of work for a client that has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, TypeVar

from ..json_text import json_text
from .request_error import RequestError

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_T = TypeVar("_T")

# A client that reads nothing for this long is dropped. Until then the kernel's and the server's buffers have filled.
SEND_TIMEOUT_S = 60.0


class JsonResponse:
    """A JSON object.

    Args:
        body: The object, or its text.
        status: The HTTP status.
        headers: Further headers.
    """

    def __init__(
        self, body: Mapping[str, Any] | str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self._body = (body if isinstance(body, str) else json_text(body)).encode()
        self._status = status
        self._headers = {"content-type": "application/json", "content-length": str(len(self._body)), **(headers or {})}

    @classmethod
    def of_error(cls, error: RequestError) -> JsonResponse:
        """A refusal or failure."""
        return cls(error.body, error.status, error.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": _encoded(self._headers)})
        await send({"type": "http.response.body", "body": b"" if scope.get("method") == "HEAD" else self._body})


class TextResponse:
    """Text.

    Args:
        text: The text.
        content_type: Its type.
    """

    def __init__(self, text: str, content_type: str) -> None:
        self._body = text.encode()
        self._headers = {"content-type": content_type, "content-length": str(len(self._body))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _encoded(self._headers)})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self._body})


class EventStream:
    """Server-sent events. Ends as soon as the client leaves or does not read.

    Args:
        chunks: The bytes of one or more events each.
        closed: Called when the stream has ended, for whatever reason.
    """

    def __init__(self, chunks: AsyncIterator[bytes], closed: Callable[[], None]) -> None:
        self._chunks, self._closed = chunks, closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._send(send))
        finally:
            self._closed()

    async def _send(self, send: Send) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        await send({"type": "http.response.start", "status": 200, "headers": _encoded(headers)})
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        async for chunk in self._chunks:
            # A timer costs less than asyncio.wait_for, which makes a task for every token.
            timer = loop.call_later(SEND_TIMEOUT_S, task.cancel if task else lambda: None)
            try:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await asyncio.sleep(0)  # so that a lost connection is noticed before the next chunk is written to it
            finally:
                timer.cancel()
        await send({"type": "http.response.body", "body": b""})


async def while_connected(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Do work as long as the client is there.

    Args:
        receive: Of the request, whose body has been read.
        work: Is cancelled when the client leaves.

    Returns:
        The work's result, or None if the client has left or the work was given up.
    """

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() and not task.cancelled() else None
    finally:
        for each in (task, leaving):
            each.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
