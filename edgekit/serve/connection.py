"""Connections as uvicorn handles them, with limits of our own: how many there are, how long a request's head takes, and
how long a client may leave a response unread.

uvicorn limits the size of a head (64 KiB) and closes a connection that is idle between requests. It does not close one
that sends its first bytes slowly, or none, or reads nothing, and answers in plain text to what is not HTTP. When bytes
of a further request arrive during an answer, it reads no more, and so would not notice that the client leaves.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ..json_text import json_text
from .http import SEND_TIMEOUT_S
from .request_error import RequestError

HEAD_TIMEOUT_S = 10.0  # from the connection, or from the first byte of a further request, to the end of the headers
_AHEAD = 64 << 10  # bytes that are read of further requests during an answer, as many as a head may have


class Connection(H11Protocol):  # type: ignore[misc]  # uvicorn is not typed here
    """A connection. ``most_connections`` is set by :func:`connections_of_at_most`."""

    most_connections = 0
    client: tuple[str, int] | None
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Refuse the connection if there are too many. Otherwise wait for a request."""
        full = len(self.connections) >= self.most_connections
        super().connection_made(transport)
        self.client = _unmapped(self.client)
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
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._read_ahead()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever: not all systems close its connection."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or has too long a head, and close the connection."""
        self._refuse(b"400 Bad Request", RequestError(f"this is not a valid HTTP request: {msg}"))

    def _read_ahead(self) -> None:
        """Read on during an answer, which uvicorn pauses when a further request begins: the client may leave."""
        if len(self.conn.trailing_data[0]) < _AHEAD:
            self.flow.resume_reading()

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

    def _expect_reading(self) -> None:
        self._stop_write_timer()
        unread = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(SEND_TIMEOUT_S, self._check_reading, unread)

    def _check_reading(self, unread: int) -> None:
        """Drop a client that has read nothing since there were so many bytes to be sent; give a slow one more time."""
        if self.transport.get_write_buffer_size() >= unread:
            self.transport.abort()
        else:
            self._expect_reading()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def connections_of_at_most(most: int) -> type[Any]:
    """The class of a server's connections, for uvicorn's setting ``http``.

    Args:
        most: The most connections at the same time.
    """
    return type("LimitedConnection", (Connection,), {"most_connections": most})


def _unmapped(client: tuple[str, int] | None) -> tuple[str, int] | None:
    """A client's address. A socket for both families reports an IPv4 client as ::ffff:192.0.2.1."""
    if client is None:
        return None
    try:
        address = getattr(ipaddress.ip_address(client[0]), "ipv4_mapped", None)
    except ValueError:
        return client
    return client if address is None else (str(address), client[1])


def _response(status: bytes, error: RequestError) -> bytes:
    body = json_text(error.body).encode()
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, len(body)) + body
