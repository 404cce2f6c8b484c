from __future__ import annotations

import pytest
from asgi_client import Response, request

from edgekit.serve.guard import Guard, is_loopback, loopback_hosts
from edgekit.serve.http import JsonResponse

KEY = "0123456789abcdef"


def ask(
    headers: dict[str, str], *, key: str | None = None, path: str = "/v1/models", host: str = "127.0.0.1"
) -> Response:
    hosts = loopback_hosts(host) if is_loopback(host) else frozenset[str]()
    return request(Guard(JsonResponse({}), key=key, hosts=hosts), "GET", path, headers=headers)


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


def test_a_key_is_demanded() -> None:
    for headers in ({}, {"authorization": KEY}, {"authorization": f"Bearer {KEY}x"}, {"authorization": "Bearer "}):
        found = ask(headers, key=KEY, host="0.0.0.0")  # noqa: S104
        assert (found.status, found.error["code"]) == (401, "invalid_api_key")
        assert found.headers["www-authenticate"] == "Bearer"
    assert ask({"authorization": f"Bearer {KEY}", "host": "x.example"}, key=KEY, host="0.0.0.0").status == 200  # noqa: S104
    assert ask({}, key=KEY, path="/health").status == 200


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.4", "example.org")))  # noqa: S104
