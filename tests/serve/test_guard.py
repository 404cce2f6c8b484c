from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from asgi_client import Response, request

from edgekit.serve import guard as guard_module
from edgekit.serve.app import make_app
from edgekit.serve.guard import Guard, is_loopback, loopback_hosts
from edgekit.serve.http import JsonResponse
from edgekit.serve.models import Models
from edgekit.serve.options import ServeOptions

KEY = "0123456789abcdef"


def ask(
    headers: dict[str, str], *, key: str | None = None, path: str = "/v1/models", host: str = "127.0.0.1"
) -> Response:
    hosts = loopback_hosts(host) if is_loopback(host) else frozenset[str]()
    return request(Guard(JsonResponse({}), key=key, hosts=hosts, most_waiting=64), "GET", path, headers=headers)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:8080", "[::1]:80"])
def test_requests_to_this_machine_are_let_through(host: str) -> None:
    assert ask({"host": host}).status == 200
    assert ask({"host": host, "origin": f"http://{host}"}).status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost@evil.example"])
def test_another_name_is_refused(host: str) -> None:
    found = ask({"host": host})
    assert (found.status, found.error["code"]) == (403, "wrong_host")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
def test_another_page_is_refused(origin: str) -> None:
    found = ask({"host": "localhost", "origin": origin})
    assert (found.status, found.error["code"]) == (403, "wrong_host")
    assert "access-control-allow-origin" not in found.headers


def test_a_key_is_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "WRONG_KEY_DELAY_S", 0.0)
    for headers in ({}, {"authorization": KEY}, {"authorization": f"Bearer {KEY}x"}, {"authorization": "Bearer "}):
        found = ask(headers, key=KEY, host="0.0.0.0")  # noqa: S104
        assert (found.status, found.error["code"]) == (401, "invalid_api_key")
        assert found.headers["www-authenticate"] == "Bearer"
    assert ask({"authorization": f"Bearer {KEY}", "host": "x.example"}, key=KEY, host="0.0.0.0").status == 200  # noqa: S104
    assert ask({}, key=KEY, path="/health").status == 200


async def guess(guard: Guard, address: str, key: str) -> Response:
    async def receive() -> dict[str, object]:
        raise AssertionError("the guard reads no body")

    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {key}".encode())]
    await guard(
        {"type": "http", "method": "GET", "path": "/v1/models", "headers": headers, "client": (address, 1)},
        receive,
        send,
    )
    return Response(status=sent[0]["status"], body=sent[1]["body"])


def test_guessing_keys_is_slow_for_an_address_and_for_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "WRONG_KEY_DELAY_S", 0.2)
    guard = Guard(JsonResponse({}), key=KEY, hosts=frozenset(), most_waiting=64)

    async def run() -> None:
        guesses = [asyncio.ensure_future(guess(guard, "203.0.113.9", f"wrong{i}")) for i in range(4)]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in guesses)
        # The right key is not told from a wrong one meanwhile.
        for key in ("wrong", KEY):
            found = await guess(guard, "203.0.113.9", key)
            assert (found.status, found.error["code"]) == (429, "too_many_wrong_keys")
        assert (await guess(guard, "203.0.113.10", KEY)).status == 200
        assert [one.status for one in await asyncio.gather(*guesses)] == [401] * 4
        assert (await guess(guard, "203.0.113.9", KEY)).status == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "other"), [("::ffff:203.0.113.9", "::ffff:203.0.113.10"), ("2001:db8::1", "2001:db8:0:1::1")]
)
def test_clients_of_a_socket_for_both_families_do_not_lock_each_other_out(
    address: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "WRONG_KEY_DELAY_S", 0.2)
    guard = Guard(JsonResponse({}), key=KEY, hosts=frozenset(), most_waiting=64)

    async def run() -> None:
        guesses = [asyncio.ensure_future(guess(guard, address, f"wrong{i}")) for i in range(4)]
        await asyncio.sleep(0.05)
        assert (await guess(guard, address.removeprefix("::ffff:"), KEY)).status == 429
        assert (await guess(guard, other, KEY)).status == 200
        assert [one.status for one in await asyncio.gather(*guesses)] == [401] * 4

    asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost"])
def test_loopback_in_every_form(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback("::ffff:192.0.2.1")


def test_strangers_do_not_lock_out_an_address_that_has_sent_the_right_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "WRONG_KEY_DELAY_S", 0.5)
    monkeypatch.setattr(guard_module, "_REMEMBERED", 2)
    guard = Guard(JsonResponse({}), key=KEY, hosts=frozenset(), most_waiting=64)

    async def run() -> None:
        for address in ("198.51.100.1", "198.51.100.2", "198.51.100.1", "198.51.100.3"):
            assert (await guess(guard, address, KEY)).status == 200
        guesses = [asyncio.ensure_future(guess(guard, f"203.0.113.{i % 16}", f"wrong{i}")) for i in range(64)]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in guesses)
        for address, status in (("198.51.100.1", 200), ("198.51.100.3", 200), ("198.51.100.2", 429)):
            assert (await guess(guard, address, KEY)).status == status
        assert (await guess(guard, "198.51.100.1", "wrong")).status == 401
        assert [one.status for one in await asyncio.gather(*guesses)] == [401] * 64
        assert (await guess(guard, "198.51.100.2", KEY)).status == 200

    asyncio.run(run())


def test_requests_that_wait_leave_connections_for_others() -> None:
    """Each has a connection; a server that has no more of them refuses everybody, known or not."""
    options = ServeOptions()
    app = make_app(Models({}, options), options, key=KEY, hosts=frozenset())
    guard = app._app
    assert isinstance(guard, Guard)
    assert guard._most_waiting <= options.connections // 2


def test_with_a_key_the_headers_may_name_any_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy on this machine passes them on as it gets them."""
    monkeypatch.setattr(guard_module, "WRONG_KEY_DELAY_S", 0.0)
    headers = {"host": "chat.example.com", "origin": "https://chat.example.com"}
    assert ask({**headers, "authorization": f"Bearer {KEY}"}, key=KEY).status == 200
    assert ask(headers, key=KEY).status == 401
    assert ask({**headers, "authorization": f"Bearer {KEY}"}).status == 403


def test_an_ipv6_network_counts_as_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "WRONG_KEY_DELAY_S", 0.2)
    guard = Guard(JsonResponse({}), key=KEY, hosts=frozenset(), most_waiting=64)

    async def run() -> None:
        found = await asyncio.gather(*(guess(guard, f"2001:db8::{i}", "wrong") for i in range(6)))
        assert sorted(one.status for one in found) == [401] * 4 + [429] * 2

    asyncio.run(run())


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.4", "example.org")))  # noqa: S104
