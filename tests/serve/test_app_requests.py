"""The whole application with tiny models: refusals, many requests at the same time, and clients that leave."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgi_client import CHAT, COMPLETIONS, HELLO, RESPONSES, Response, request, send
from shared_models import SharedModels

from edgekit.errors import ContextLengthError
from edgekit.json_text import json_list
from edgekit.serve.completion_request import TokenizeRequest, read_tokenize_request
from edgekit.serve.models import Models
from edgekit.serve.served_model import ServedModel


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "message"),
    [
        ("POST", CHAT, b"{", {}, 400, "not valid JSON"),
        ("POST", CHAT, b"\xff", {}, 400, "not UTF-8"),
        ("POST", CHAT, b"[]", {}, 400, "must be a JSON object"),
        ("POST", CHAT, b"", {}, 400, "not valid JSON"),
        ("POST", CHAT, {}, {}, 400, "messages is missing"),
        ("POST", CHAT, HELLO, {"content-type": "text/plain"}, 415, "must be application/json"),
        ("POST", CHAT, b" " * 3000, {}, 413, "larger than 2000 bytes"),
        ("POST", CHAT, {**HELLO, "model": "other"}, {}, 404, "no model 'other'"),
        ("POST", CHAT, {**HELLO, "model": "x" * 1500}, {}, 404, f"no model '{'x' * 60}...'"),
        ("GET", "/" + "x" * 3000, None, {}, 404, f"there is no /{'x' * 59}..."),
        ("POST", CHAT, {**HELLO, "model": 5}, {}, 400, "model is 5"),
        ("POST", CHAT, {"messages": [{"role": "user", "content": "x " * 400}]}, {}, 400, "the context holds 256"),
        ("POST", CHAT, {**HELLO, "reasoning_effort": "high"}, {}, 400, "does not think"),
        ("POST", CHAT, b'{"messages": [], "messages": []}', {}, 400, "twice"),
        ("POST", CHAT, {**HELLO, "tool_choice": "required"}, {}, 400, "there are no tools"),
        ("POST", RESPONSES, b'{"input": "a", "metadata": {"x": 1e999}}', {}, 400, "1e999 is too large"),
        ("POST", RESPONSES, b'{"input": "a", "tools": [{"x": -1e999}]}', {}, 400, "-1e999 is too large"),
        ("POST", COMPLETIONS, {"prompt": [99999]}, {}, 400, "token id 99999"),
        ("POST", COMPLETIONS, {"prompt": "\ud800"}, {}, 400, "lone surrogate"),
        ("POST", "/tokenize", {}, {}, 400, "either prompt or messages"),
        ("GET", CHAT, None, {}, 405, "Method Not Allowed"),
        ("GET", "/nothing", None, {}, 404, "there is no /nothing"),
        ("OPTIONS", CHAT, None, {}, 405, "Method Not Allowed"),
        ("GET", "/health", None, {"host": "evil.example"}, 403, "header Host"),
    ],
)  # fmt: skip
def test_a_bad_request_has_a_4xx_in_openais_form(
    make_app: Any, method: str, path: str, body: Any, headers: dict[str, str], status: int, message: str
) -> None:
    found = request(make_app(body_bytes=2000), method, path, body, headers=headers)
    assert (found.status, found.error.keys()) == (status, {"message", "type", "param", "code"})
    assert message in found.error["message"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (CHAT, "max_tokens"), (CHAT, "max_completion_tokens"), (COMPLETIONS, "max_tokens"),
        (RESPONSES, "max_output_tokens"),
    ],
)  # fmt: skip
def test_too_many_tokens_are_refused_by_the_field_of_the_route(make_app: Any, path: str, field: str) -> None:
    text = {CHAT: {"messages": HELLO["messages"]}, COMPLETIONS: {"prompt": "a"}, RESPONSES: {"input": "a"}}[path]
    found = request(make_app(max_tokens=9), "POST", path, {**text, field: 10})
    assert (found.status, found.error["param"]) == (400, field)
    assert found.error["message"] == f"{field} is 10; this server allows at most 9"


def test_a_model_that_cannot_be_opened_is_no_fault_of_the_request(
    make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> ServedModel:
        raise ContextLengthError("a context of 9 positions was requested", hint="ask for less")

    monkeypatch.setattr(ServedModel, "open", refuse)
    found = request(make_app(), "POST", CHAT, HELLO)
    assert (found.status, found.error["type"]) == (500, "server_error")
    assert found.error["message"].startswith("the model cannot be opened: a context of 9 positions was requested; ask")


def test_concurrent_requests_get_their_own_answers(make_app: Any) -> None:
    app = make_app()
    asked = [
        {"prompt": [5 + i, 9, 40 + i], "max_tokens": 20, "temperature": 1, "seed": i, "stream": i % 2 == 0}
        for i in range(12)
    ]

    async def all_at_once() -> list[Response]:
        return await asyncio.gather(*(send(app, "POST", COMPLETIONS, each) for each in asked))

    for each, found in zip(asked, asyncio.run(all_at_once()), strict=True):
        assert found.status == 200
        usage = None if each["stream"] else found.json()["usage"]
        assert usage is None or usage["prompt_tokens"] == 3
        assert not each["stream"] or found.events[-1] == "[DONE]"
    assert request(app, "GET", "/health").json()["active"] == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(make_app: Any, stream: bool) -> None:
    app = make_app(parallel=1)
    models: Models = app.models

    async def run() -> None:
        body = {**HELLO, "max_tokens": 200, "stream": stream}
        left = await send(app, "POST", CHAT, body, leave_after=3 if stream else 0)
        assert b"[DONE]" not in left.body
        for _ in range(1000):
            if models.get("tiny").scheduler.jobs == (0, 0):
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the place is not free")

    asyncio.run(run())
    assert request(app, "POST", CHAT, HELLO).status == 200


def test_a_full_queue_is_a_429(make_app: Any) -> None:
    app = make_app(parallel=1, queue=1)

    async def run() -> list[Response]:
        return await asyncio.gather(*(send(app, "POST", CHAT, {**HELLO, "max_tokens": 100}) for _ in range(6)))

    found = asyncio.run(run())
    refused = [each for each in found if each.status == 429]
    assert {each.status for each in found} == {200, 429}
    assert all(int(each.headers["retry-after"]) >= 1 and each.error["type"] == "rate_limit_error" for each in refused)


def test_long_texts_do_not_keep_short_ones_waiting(make_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More long texts than there are threads, each of which takes until the test lets it go on."""
    app, go_on, encoding = make_app(), threading.Event(), threading.Semaphore(0)
    tokenize = ServedModel.tokenize

    def slow(model: ServedModel, asked: TokenizeRequest) -> list[int]:
        if len(asked.prompt) > 1000:
            encoding.release()
            assert go_on.wait(20)
            return []
        return tokenize(model, asked)

    monkeypatch.setattr(ServedModel, "tokenize", slow)

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(3))
        long = [asyncio.ensure_future(send(app, "POST", "/tokenize", {"prompt": "a" * 300_000})) for _ in range(5)]
        await asyncio.to_thread(encoding.acquire)
        short = await asyncio.wait_for(send(app, "POST", "/tokenize", {"prompt": "Paris"}), 10)
        assert (short.status, short.json()["count"] > 0) == (200, True)
        go_on.set()
        assert [response.status for response in await asyncio.gather(*long)] == [200] * 5

    asyncio.run(run())


def test_a_failure_in_the_middle_of_a_stream_is_an_event(make_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(time_limit_s=1e-9)
    time.sleep(0.001)
    found = request(app, "POST", CHAT, {**HELLO, "stream": True})
    assert found.events[-1]["error"]["type"] == "server_error"
    assert request(app, "POST", CHAT, HELLO).status == 503


def test_long_bodies_are_read_outside_the_event_loop(make_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop serves all requests, and 4 MB of numbers take more than a second to check."""
    app, threads = make_app(), []

    def read(value: Any) -> TokenizeRequest:
        threads.append(threading.current_thread() is threading.main_thread())
        return read_tokenize_request(value)

    monkeypatch.setattr("edgekit.serve.app.read_tokenize_request", read)
    for prompt, inside in (("Paris", True), ("a" * 300_000, False)):
        assert request(app, "POST", "/tokenize", {"prompt": prompt}).status == 200
        assert threads.pop() is inside
    refused = request(app, "POST", "/tokenize", {"prompt": "a" * 300_000, "other": 1})
    assert (refused.status, refused.error["param"]) == (400, "other")


def test_the_ids_of_a_text_are_written_outside_the_event_loop(make_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be four millions of them."""
    threads = []

    def written(ids: list[int]) -> str:
        threads.append(threading.current_thread() is threading.main_thread())
        return json_list(ids)

    monkeypatch.setattr("edgekit.serve.app.json_list", written)
    found = request(make_app(), "POST", "/tokenize", {"prompt": "Paris"}).json()
    assert (threads, found["count"], found["max_model_len"]) == ([False], len(found["tokens"]), 256)


def test_an_open_model_answers_while_many_requests_wait_for_another(
    make_app: Any, models: SharedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(folders={"a": models.artifact(), "b": models.artifact()})
    app.models.get("a")
    begun, go_on, opened = threading.Event(), threading.Event(), ServedModel.open

    def slow(*arguments: Any) -> ServedModel:
        begun.set()
        assert go_on.wait(30)
        return opened(*arguments)

    monkeypatch.setattr(ServedModel, "open", slow)

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(3))
        asked = {"prompt": "Paris", "model": "b"}
        waiting = [asyncio.ensure_future(send(app, "POST", "/tokenize", asked)) for _ in range(6)]
        await asyncio.to_thread(begun.wait, 30)
        found = await asyncio.wait_for(send(app, "POST", "/tokenize", {**asked, "model": "a"}), 20)
        assert (found.status, any(each.done() for each in waiting)) == (200, False)
        go_on.set()
        assert [response.status for response in await asyncio.gather(*waiting)] == [200] * 6

    asyncio.run(run())
