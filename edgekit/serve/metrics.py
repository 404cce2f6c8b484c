"""What the server counts, in Prometheus' text format for ``/metrics``.

https://prometheus.io/docs/instrumenting/exposition_formats/. All values are kept and written in the thread of the event
loop.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .http import Receive, Scope, Send
from .job import Ended
from .models import Models

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_REQUEST_S = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
Labels = tuple[str, ...]


class Histogram:
    """How often a value fell below each bound, for each set of labels.

    Args:
        bounds: In ascending order.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: Counter[Labels] = Counter()

    def add(self, labels: Labels, value: float, times: int = 1) -> None:
        """Count a value."""
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, value)] += times
        self._sums[labels] += value * times  # type: ignore[assignment]

    def lines(self, name: str, keys: Sequence[str]) -> list[str]:
        """The samples."""
        found = []
        for labels, counts in self._counts.items():
            pairs, total = list(zip(keys, labels, strict=True)), 0
            for bound, count in zip((*(f"{each:g}" for each in self._bounds), "+Inf"), counts, strict=True):
                total += count
                found.append(_sample(f"{name}_bucket", [*pairs, ("le", bound)], total))
            found.append(_sample(f"{name}_sum", pairs, self._sums[labels]))
            found.append(_sample(f"{name}_count", pairs, total))
        return found


class Metrics:
    """The server's counters.

    Args:
        routes: The paths of the routes; requests for others are counted as ``other``.
    """

    def __init__(self, routes: Iterable[str]) -> None:
        self._routes = frozenset(routes)
        self._requests: Counter[Labels] = Counter()
        self._request_s = Histogram(_REQUEST_S)
        self._tokens: Counter[Labels] = Counter()
        self._answers: Counter[Labels] = Counter()
        self._first_s, self._token_s = Histogram(_FIRST_S), Histogram(_TOKEN_S)

    def request(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        route = path if path in self._routes else "other"
        if path.startswith("/v1/models/"):
            route = "/v1/models/{model}"
        elif path.startswith("/page/") and route == "other":
            route = "/page"
        known = method if method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
        self._requests[route, known, str(status)] += 1
        self._request_s.add((route,), seconds)

    def answer(self, model: str, ended: Ended) -> None:
        """Count an answer that has ended."""
        self._answers[model, ended.finish] += 1
        for kind, count in (
            ("prompt", ended.prompt_tokens),
            ("prompt_cached", ended.cached_tokens),
            ("completion", ended.tokens),
            ("reasoning", ended.thought_tokens),
        ):
            self._tokens[model, kind] += count
        if ended.first_s is not None:
            self._first_s.add((model,), ended.first_s)
        if ended.tokens > 1:
            self._token_s.add((model,), ended.decode_s / (ended.tokens - 1), ended.tokens - 1)

    def left(self, model: str) -> None:
        """Count an answer that was given up, because its client has left or it failed."""
        self._answers[model, "given_up"] += 1

    def text(self, models: Models, rss_bytes: int | None) -> str:
        """Everything in Prometheus' format.

        Args:
            models: The artifacts.
            rss_bytes: Memory of the process; None if it is not known.
        """
        opened = models.opened()
        jobs = [(model.name, *model.scheduler.jobs) for model in opened]
        loaded = {model.name for model in opened}
        parts: list[tuple[str, str, str, list[str]]] = [
            (
                "requests_total", "counter", "HTTP requests by route, method and status.",
                _samples("requests_total", ("route", "method", "status"), self._requests),
            ),
            (
                "request_seconds", "histogram", "Seconds until the last byte of a response was sent.",
                self._request_s.lines("edgekit_request_seconds", ("route",)),
            ),
            (
                "answers_total", "counter", "Answers by what ended them.",
                _samples("answers_total", ("model", "finish"), self._answers),
            ),
            (
                "tokens_total", "counter",
                "Tokens of finished answers: prompts, the cached part of them, completions, and their thoughts.",
                _samples("tokens_total", ("model", "kind"), self._tokens),
            ),
            (
                "first_token_seconds", "histogram", "Seconds from a request to the first token, with the queue.",
                self._first_s.lines("edgekit_first_token_seconds", ("model",)),
            ),
            (
                "token_seconds", "histogram", "Seconds per token after the first one: an answer's mean, once for each.",
                self._token_s.lines("edgekit_token_seconds", ("model",)),
            ),
            (
                "active_answers", "gauge", "Answers that are computed.",
                [_sample("edgekit_active_answers", [("model", name)], active) for name, active, _ in jobs],
            ),
            (
                "waiting_answers", "gauge", "Answers that wait in the queue.",
                [_sample("edgekit_waiting_answers", [("model", name)], waiting) for name, _, waiting in jobs],
            ),
            (
                "model_loaded", "gauge", "Whether a model is loaded.",
                [_sample("edgekit_model_loaded", [("model", name)], name in loaded) for name in models.names],
            ),
            (
                "model_file_bytes", "gauge", "Bytes of a loaded model's files, whose weights are mapped.",
                [
                    _sample("edgekit_model_file_bytes", [("model", name)], models.file_bytes(name))
                    for name in models.names
                    if name in loaded
                ],
            ),
        ]  # fmt: skip
        lines = []
        for name, kind, about, samples in parts:
            lines += [f"# HELP edgekit_{name} {about}", f"# TYPE edgekit_{name} {kind}", *samples]
        if rss_bytes is not None:
            name = "process_resident_memory_bytes"
            lines += [f"# HELP {name} Memory of the process, with mapped weights.", f"# TYPE {name} gauge"]
            lines.append(_sample(name, [], rss_bytes))
        return "\n".join(lines) + "\n"


class Counted:
    """An ASGI application around another one, which counts its responses.

    Args:
        app: The other one.
        metrics: The counters.
    """

    def __init__(self, app: object, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)  # type: ignore[operator]
            return
        status, began = 500, time.monotonic()

        async def noting(message: Mapping[str, object]) -> None:
            nonlocal status
            if message["type"] == "http.response.start" and isinstance(message["status"], int):
                status = message["status"]
            await send(message)  # type: ignore[arg-type]

        try:
            await self._app(scope, receive, noting)  # type: ignore[operator]
        finally:
            self._metrics.request(scope["path"], scope["method"], status, time.monotonic() - began)


def _samples(name: str, keys: Sequence[str], counts: Mapping[Labels, int]) -> list[str]:
    return [_sample(f"edgekit_{name}", list(zip(keys, labels, strict=True)), count) for labels, count in counts.items()]


def _sample(name: str, labels: Sequence[tuple[str, str]], value: float) -> str:
    written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    number = f"{value:d}" if isinstance(value, int) else f"{value:.9g}"
    return f"{name}{{{written}}} {number}" if written else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
