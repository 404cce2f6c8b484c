"""Sends requests to an ASGI application in this process. A request may leave in the middle of a response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1:8080"
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "temperature": 0}


@dataclass
class Response:
    """What the application has sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a refusal."""
        found: dict[str, Any] = self.json()["error"]
        return found

    @property
    def events(self) -> list[Any]:
        """The JSON values of server-sent events; the last one, ``[DONE]``, as it stands."""
        texts = [part.removeprefix("data: ") for part in self.body.decode().split("\n\n") if part.startswith("data: ")]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


async def send(
    app: Any,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    leave_after: int | None = None,
) -> Response:
    """Send a request and return the response.

    Args:
        app: The application.
        method: Of HTTP.
        path: Of the URL.
        body: Bytes, or a value that is sent as JSON.
        headers: Instead of those that a client sends.
        leave_after: The client leaves after this many parts of the response's body.
    """
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = {"host": HOST, "content-type": "application/json", **(headers or {})}
    response, parts, left, sent = Response(), 0, asyncio.Event(), False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": content, "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def take(message: MutableMapping[str, Any]) -> None:
        nonlocal parts
        if message["type"] == "http.response.start":
            response.status = message["status"]
            response.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        response.body += message.get("body", b"")
        parts += 1
        if parts == leave_after:
            left.set()

    if leave_after == 0:
        left.set()
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080),
    }  # fmt: skip
    await app(scope, receive, take)
    return response


def request(app: Any, method: str, path: str, body: Any = None, **options: Any) -> Response:
    """:func:`send` outside an event loop."""
    return asyncio.run(send(app, method, path, body, **options))
