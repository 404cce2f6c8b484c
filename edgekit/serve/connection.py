"""Connections as uvicorn handles them, with limits of our own: how many there are, and how long a request's head takes.

uvicorn limits the size of a head (64 KiB) and closes a connection that is idle between requests. It does not close one
that sends its first bytes slowly, or none, and answers in plain text to what is not HTTP.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ..json_text import json_text
from .request_error import RequestError

HEAD_TIMEOUT_S = 10.0  # from the connection, or from the first byte of a further request, to the end of the headers


class Connection(H11Protocol):  # type: ignore[misc]  # uvicorn is not typed here
    """A connection. ``most_connections`` is set by :func:`connections_of_at_most`."""

    most_connections = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Refuse the connection if there are too many. Otherwise wait for a request."""
        full = len(self.connections) >= self.most_connections
        super().connection_made(transport)
        if full:
            message = f"the server has {self.most_connections} connections, the most that it accepts"
            self._refuse(b"503 Service Unavailable", RequestError(message, status=503))
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self.transport.is_closing():
            return
        answered = self.cycle
        idle = answered is None or answered.response_complete
        super().data_received(data)
        if self.cycle is not answered:  # a head is complete
            self._stop_timer()
        elif idle and self._head_timer is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or has too long a head, and close the connection."""
        self._refuse(b"400 Bad Request", RequestError(f"this is not a valid HTTP request: {msg}"))

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._too_slow)

    def _too_slow(self) -> None:
        self._refuse(
            b"408 Request Timeout",
            RequestError(f"the request's headers did not arrive within {HEAD_TIMEOUT_S:.0f} s", status=408),
        )

    def _refuse(self, status: bytes, error: RequestError) -> None:
        self._stop_timer()
        self.transport.write(_response(status, error))
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def connections_of_at_most(most: int) -> type[Any]:
    """The class of a server's connections, for uvicorn's setting ``http``.

    Args:
        most: The most connections at the same time.
    """
    return type("LimitedConnection", (Connection,), {"most_connections": most})


def _response(status: bytes, error: RequestError) -> bytes:
    body = json_text(error.body).encode()
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, len(body)) + body
