"""Who may talk to the server: decides before a request reaches a route.

A server on loopback needs no key, but any web page that a user visits can send requests to it. So its Host header must
name this machine (a page could otherwise have its own name resolve to 127.0.0.1), and an Origin header must do so too.
Other pages cannot read responses, because the server sends no CORS headers.

With a key, every request needs it, and the headers may name any host: a page that does not have the key can do nothing,
and a proxy on the same machine passes on the names by which others reach it.

Guessing keys is slow: a wrong one is refused after a second, and an address may have only a few such requests waiting.
While it has them, its keys are not even compared, or the answer would tell a right one at once. All addresses together
have a limit, too, which does not hold for those that have sent the right key: strangers cannot lock them out.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections import Counter
from urllib.parse import urlsplit

from .http import JsonResponse, Receive, Scope, Send
from .page import page_paths
from .request_error import RequestError

WRONG_KEY_DELAY_S = 1.0
_WAITING_PER_ADDRESS = 4
# At most so many keys are tried in a second, by whatever number of addresses. A key of 16 random hexadecimal digits,
# of which there are 2^64, then lasts for hundreds of millions of years.
MOST_WAITING = 1024
_REMEMBERED = 1024  # addresses that have sent the right key
OPEN_PATHS = frozenset({"/health", *page_paths()})  # need no key


class Guard:
    """An ASGI application around another one.

    Args:
        app: The other one.
        key: The key that requests must carry, or None.
        hosts: The host names that requests may be addressed to if there is no key; empty for any.
        most_waiting: The most requests with a wrong key that wait for their refusal, at most ``MOST_WAITING``. Each has
            a connection meanwhile, so it should be less than the connections that the server accepts.
    """

    def __init__(self, app: object, *, key: str | None, hosts: frozenset[str], most_waiting: int) -> None:
        self._app = app
        self._most_waiting = min(most_waiting, MOST_WAITING)
        self._key = None if key is None else key.encode()
        self._hosts = hosts if key is None else frozenset[str]()
        self._wrong: Counter[str] = Counter()  # requests with a wrong key that wait for their refusal, by address
        self._known: dict[str, None] = {}  # addresses that have sent the right key, the latest one last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._refusal(scope) if scope["type"] == "http" else None
        if error is not None:
            if error.status == 401:
                await self._delay(_address(scope))
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
        address = _address(scope)
        full = self._wrong.total() >= self._most_waiting and address not in self._known
        if full or self._wrong[address] >= _WAITING_PER_ADDRESS:
            return RequestError(
                "too many requests with a wrong API key", status=429, code="too_many_wrong_keys",
                headers={"retry-after": "1"},
            )  # fmt: skip
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._key):
            self._remember(address)
            return None
        return RequestError(
            "the API key is missing or wrong; send it in the header Authorization: Bearer KEY",
            status=401,
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )

    def _remember(self, address: str) -> None:
        self._known.pop(address, None)
        self._known[address] = None
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]

    async def _delay(self, address: str) -> None:
        self._wrong[address] += 1
        try:
            await asyncio.sleep(WRONG_KEY_DELAY_S)
        finally:
            self._wrong[address] -= 1
            if not self._wrong[address]:
                del self._wrong[address]

    def _not_here(self, header: str, value: bytes) -> RequestError:
        allowed = ", ".join(sorted(self._hosts))
        return RequestError(
            f"the header {header} is {value.decode('latin-1')[:100]!r}; this server answers to: {allowed}",
            status=403,
            code="wrong_host",
        )


def _address(scope: Scope) -> str:
    """Whom a request is from: an IPv4 address, or the network of an IPv6 address, whose owner has 2^64 of them."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return ""
    # As a proxy may write them, IPv4 addresses like ::ffff:192.0.2.1 are all in one network.
    address = getattr(address, "ipv4_mapped", None) or address
    return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))


def is_loopback(host: str) -> bool:
    """Whether a host is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
        return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)
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
