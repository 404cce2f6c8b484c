from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgi_client import send

from edgekit.serve.http import JsonResponse
from edgekit.serve.job import Ended
from edgekit.serve.metrics import Counted, Histogram, Metrics


class NoModels:
    names = ("a",)

    def opened(self) -> list[Any]:
        return []


MODELS: Any = NoModels()


def test_a_histogram_counts_up_to_each_bound() -> None:
    made = Histogram((0.1, 1))
    for value in (0.1, 0.5, 3):
        made.add(("x",), value, 2)
    assert made.lines("h", ("k",)) == [
        'h_bucket{k="x",le="0.1"} 2',
        'h_bucket{k="x",le="1"} 4',
        'h_bucket{k="x",le="+Inf"} 6',
        'h_sum{k="x"} 7.2',
        'h_count{k="x"} 6',
    ]


def test_answers_are_counted_by_model() -> None:
    metrics = Metrics(())
    metrics.answer('a "b"\n', Ended("stop", 7, 4, 5, 2, 0.3, 0.4))
    metrics.answer('a "b"\n', Ended("length", 1, 0, 0, 0))
    metrics.left("c")
    lines = metrics.text(MODELS, 123).splitlines()
    label = r'model="a \"b\"\n"'
    for line in (
        f'edgekit_answers_total{{{label},finish="stop"}} 1',
        f'edgekit_tokens_total{{{label},kind="prompt"}} 8',
        f'edgekit_tokens_total{{{label},kind="reasoning"}} 2',
        f"edgekit_first_token_seconds_count{{{label}}} 1",
        f"edgekit_token_seconds_count{{{label}}} 4",
        f"edgekit_token_seconds_sum{{{label}}} 0.4",
        'edgekit_answers_total{model="c",finish="given_up"} 1',
        'edgekit_model_loaded{model="a"} 0',
        "process_resident_memory_bytes 123",
    ):
        assert line in lines
    assert "process_resident" not in metrics.text(MODELS, None)


def test_routes_are_bounded() -> None:
    metrics = Metrics(["/", "/health"])
    for path in ("/health", "/v1/models/x", "/v1/models/y", "/page/a.js", "/nothing", "/other"):
        metrics.request(path, "GET", 200, 0.1)
    metrics.request("/health", "BREW", 405, 0.1)
    lines = metrics.text(MODELS, None).splitlines()
    counts = [line for line in lines if line.startswith("edgekit_requests_total")]
    assert counts == [
        'edgekit_requests_total{route="/health",method="GET",status="200"} 1',
        'edgekit_requests_total{route="/v1/models/{model}",method="GET",status="200"} 2',
        'edgekit_requests_total{route="/page",method="GET",status="200"} 1',
        'edgekit_requests_total{route="other",method="GET",status="200"} 2',
        'edgekit_requests_total{route="/health",method="other",status="405"} 1',
    ]


def test_responses_are_counted_also_if_the_application_fails() -> None:
    metrics = Metrics(["/a"])
    asyncio.run(send(Counted(JsonResponse({}, 202), metrics), "GET", "/a"))

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        asyncio.run(send(Counted(failing, metrics), "GET", "/a"))
    lines = metrics.text(MODELS, None)
    assert 'route="/a",method="GET",status="202"} 1' in lines
    assert 'route="/a",method="GET",status="500"} 1' in lines
