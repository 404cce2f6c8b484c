"""Who may talk to the server: decides before a request reaches a route.

A server on loopback needs no key, but any web page that a user visits can send requests to it. So its Host header must
name this machine (a page could otherwise have its own name resolve to 127.0.0.1), and an Origin header must do so too.
Other pages cannot read responses, because the server sends no CORS headers. Elsewhere every request needs the key.
"""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from .http import JsonResponse, Receive, Scope, Send
from .page import page_paths
from .request_error import RequestError

OPEN_PATHS = frozenset({"/health", *page_paths()})  # need no key


class Guard:
    """An ASGI application around another one.

    Args:
        app: The other one.
        key: The key that requests must carry, or None.
        hosts: The host names that requests may be addressed to; empty for any.
    """

    def __init__(self, app: object, *, key: str | None, hosts: frozenset[str]) -> None:
        self._app = app
        self._key = None if key is None else key.encode()
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._refusal(scope) if scope["type"] == "http" else None
        if error is not None:
            await JsonResponse.of_error(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)  # type: ignore[operator]

    def _refusal(self, scope: Scope) -> RequestError | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self._hosts and _host(headers.get(b"host", b"")) not in self._hosts:
            return self._not_here("Host", headers.get(b"host", b""))
        if self._hosts and b"origin" in headers and _origin(headers[b"origin"]) not in self._hosts:
            return self._not_here("Origin", headers[b"origin"])
        if self._key is None or scope["path"] in OPEN_PATHS:
            return None
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._key):
            return None
        return RequestError(
            "the API key is missing or wrong; send it in the header Authorization: Bearer KEY",
            status=401,
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )

    def _not_here(self, header: str, value: bytes) -> RequestError:
        allowed = ", ".join(sorted(self._hosts))
        return RequestError(
            f"the header {header} is {value.decode('latin-1')[:100]!r}; this server answers to: {allowed}",
            status=403,
            code="wrong_host",
        )


def is_loopback(host: str) -> bool:
    """Whether a host is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loopback_hosts(host: str) -> frozenset[str]:
    """The names of this machine that requests to a server on loopback are addressed to.

    Args:
        host: The host that the server is bound to.
    """
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower()})


def _host(header: bytes) -> str:
    """The host of a Host header, without its port and brackets; empty if it is not valid."""
    return _origin(b"//" + header)


def _origin(header: bytes) -> str:
    try:
        return urlsplit(header.decode("latin-1")).hostname or ""
    except ValueError:
        return ""
