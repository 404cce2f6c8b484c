"""The routes of the server: from a request to a response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from ..errors import EdgekitError
from ..json_text import json_text
from .answer_request import AnswerRequest
from .chat_request import read_chat_request
from .completion_request import read_completion_request, read_tokenize_request
from .fields import parse_json
from .guard import Guard
from .http import EventStream, JsonResponse, while_connected
from .job import Ended, Event, Job, Text
from .models import Models
from .options import ServeOptions
from .page import PageFile, page_paths
from .replies import ChatReply, CompletionReply
from .request_error import RequestError, request_error
from .served_model import ServedModel

_BODY_TIMEOUT_S = 30.0
_QUIET_S = 15.0  # after which a comment is sent, so that no proxy takes a stream for dead
_T = TypeVar("_T")


def make_app(models: Models, options: ServeOptions, *, key: str | None, hosts: frozenset[str]) -> Guard:
    """The server's ASGI application. It closes the models when it ends.

    Args:
        models: The artifacts.
        options: The limits.
        key: The key that requests must carry, or None.
        hosts: The host names that requests may be addressed to; empty for any.
    """
    server = _Server(models, options)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(models.close)

    page = [Route(path, PageFile(file), methods=["GET"]) for path, file in page_paths().items()]
    routes = [
        *page,
        Route("/health", server.health),
        Route("/v1/models", server.list_models),
        Route("/v1/models/{name:path}", server.one_model),
        Route("/v1/chat/completions", server.chat, methods=["POST"]),
        Route("/v1/completions", server.complete, methods=["POST"]),
        Route("/tokenize", server.tokenize, methods=["POST"]),
    ]
    handlers = {RequestError: _refused, HTTPException: _no_route, Exception: _failed}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    return Guard(app, key=key, hosts=hosts)


class _Server:
    def __init__(self, models: Models, options: ServeOptions) -> None:
        self._models, self._options = models, options

    async def health(self, request: Request) -> JsonResponse:
        jobs = [model.scheduler.jobs for model in self._models.opened()]
        active, waiting = sum(job[0] for job in jobs), sum(job[1] for job in jobs)
        return JsonResponse({"status": "ok", "active": active, "waiting": waiting})

    async def list_models(self, request: Request) -> JsonResponse:
        models = [self._models.describe(name) for name in self._models.names]
        return JsonResponse({"object": "list", "data": models})

    async def one_model(self, request: Request) -> JsonResponse:
        return JsonResponse(self._models.describe(self._models.find(request.path_params["name"])))

    async def chat(self, request: Request) -> Any:
        asked = read_chat_request(await self._json(request))
        model = await self._model(asked.answer.model)
        reply = ChatReply(model.name, reasons=model.manifest.reasoning)
        return await self._answer(request, model, asked.answer, reply, partial(model.chat_job, asked), "messages")

    async def complete(self, request: Request) -> Any:
        asked = read_completion_request(await self._json(request))
        model = await self._model(asked.answer.model)
        reply = CompletionReply(model.name)
        return await self._answer(request, model, asked.answer, reply, partial(model.completion_job, asked), "prompt")

    async def tokenize(self, request: Request) -> JsonResponse:
        asked = read_tokenize_request(await self._json(request))
        model = await self._model(asked.model)
        ids = await _in_thread(
            partial(model.tokenize, asked), "prompt" if isinstance(asked.prompt, str) else "messages"
        )
        return JsonResponse({"tokens": ids, "count": len(ids), "max_model_len": model.context})

    async def _answer(
        self,
        request: Request,
        model: ServedModel,
        asked: AnswerRequest,
        reply: ChatReply | CompletionReply,
        make_job: Callable[[Callable[[Event], None]], Job],
        param: str,
    ) -> Any:
        reader = _Reader()
        job = await _in_thread(partial(make_job, reader.emit), param)
        model.scheduler.submit(job)
        cancel = partial(model.scheduler.cancel, job)
        if asked.stream:
            return EventStream(_events(reader, reply, asked.include_usage), cancel)
        try:
            found = await while_connected(request.receive, reader.whole())
        finally:
            cancel()
        if found is None:  # nobody reads the response
            return JsonResponse(RequestError("the client has left", status=499).body, 499)
        return JsonResponse(reply.whole(*found))

    async def _model(self, name: str | None) -> ServedModel:
        return await _in_thread(partial(self._models.get, self._models.find(name)))

    async def _json(self, request: Request) -> Any:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError(
                f"the header Content-Type is {kind!r}; it must be application/json", status=415, param="Content-Type"
            )
        try:
            return parse_json(await asyncio.wait_for(self._body(request), _BODY_TIMEOUT_S))
        except asyncio.TimeoutError:
            raise RequestError(f"the body did not arrive within {_BODY_TIMEOUT_S:.0f} s", status=408) from None
        except ClientDisconnect:
            raise RequestError("the client has left", status=499) from None

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._options.body_bytes:
                raise RequestError(
                    f"the body is larger than {self._options.body_bytes} bytes, which is the most this server reads",
                    status=413,
                )
        return bytes(body)


class _Reader:
    """Brings a job's events from the scheduler's thread to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    def emit(self, event: Event) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it the request
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self, timeout_s: float | None = None) -> Text | Ended | None:
        """The next event, or None if there was none for so long.

        Raises:
            RequestError: The job has failed.
        """
        quiet = None
        if timeout_s is not None and self._events.empty():
            quiet = self._loop.call_later(timeout_s, self._events.put_nowait, None)
        try:
            event = await self._events.get()
        finally:
            if quiet is not None:
                quiet.cancel()
        if isinstance(event, EdgekitError):
            raise request_error(event)
        if isinstance(event, RequestError):
            raise event
        return event

    async def whole(self) -> tuple[Text, Ended]:
        """All of the text, and the end.

        Raises:
            RequestError: The job has failed.
        """
        text = Text([])
        while True:
            event = await self.next()
            if isinstance(event, Ended):
                return text, event
            if event is not None:
                text.pieces.extend(event.pieces)
                text.logprobs.extend(event.logprobs)


async def _events(reader: _Reader, reply: ChatReply | CompletionReply, include_usage: bool) -> AsyncIterator[bytes]:
    """The events of a stream."""
    first = reply.first()
    if first is not None:
        yield _event(first)
    try:
        while True:
            event = await reader.next(_QUIET_S)
            if event is None:
                yield b": the answer goes on\n\n"
            elif isinstance(event, Ended):
                yield _event(reply.last(event))
                if include_usage:
                    yield _event(reply.usage(event))
                yield b"data: [DONE]\n\n"
                return
            else:
                yield _event(reply.chunk(event))
    except RequestError as error:
        yield _event(error.body)


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json_text(value)}\n\n".encode()


async def _in_thread(work: Callable[[], _T], param: str | None = None) -> _T:
    """Do something slow in another thread.

    Raises:
        RequestError: It failed; ``param`` is the key of the request that it is about.
    """
    try:
        return await asyncio.to_thread(work)
    except (EdgekitError, ValueError) as error:
        raise request_error(error, param) from None


async def _refused(request: Request, error: RequestError) -> JsonResponse:
    return JsonResponse.of_error(error)


async def _no_route(request: Request, error: HTTPException) -> JsonResponse:
    method, path = request.method, request.url.path
    message = f"there is no {path}" if error.status_code == 404 else f"{method} {path}: {error.detail}"
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    return JsonResponse.of_error(RequestError(message, status=error.status_code, headers=headers))


async def _failed(request: Request, error: Exception) -> JsonResponse:
    return JsonResponse.of_error(RequestError("the server has failed; its log says why", status=500))
