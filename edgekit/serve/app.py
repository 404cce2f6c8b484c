"""The routes of the server: from a request to a response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from ..errors import EdgekitError
from ..host import resident_bytes
from ..json_text import json_list, json_text
from .answer_request import AnswerRequest
from .body import parse_json
from .chat_request import read_chat_request
from .completion_request import TokenizeRequest, read_completion_request, read_tokenize_request
from .fields import cut
from .guard import Guard
from .http import EventStream, JsonResponse, TextResponse, while_connected
from .job import Ended, Job
from .metrics import CONTENT_TYPE, Counted, Metrics
from .models import Models
from .openapi import document
from .options import ServeOptions
from .page import PageFile, page_paths
from .reader import Emit, Reader
from .replies import ChatReply, CompletionReply, Reply
from .request_error import RequestError, request_error, unopened
from .response_reply import ResponseReply
from .response_request import read_response_request
from .served_model import ServedModel

_BODY_TIMEOUT_S = 30.0
_LONG_BODY = 256 << 10  # bytes
_QUIET_S = 15.0  # after which a comment is sent, so that no proxy takes a stream for dead
_T = TypeVar("_T")


def make_app(models: Models, options: ServeOptions, *, key: str | None, hosts: frozenset[str]) -> Counted:
    """The server's ASGI application.

    Args:
        models: The artifacts, which the caller closes.
        options: The limits.
        key: The key that requests must carry, or None.
        hosts: The host names that requests may be addressed to if there is no key; empty for any.
    """
    routes = [
        ("/health", "health", "GET"),
        ("/metrics", "show_metrics", "GET"),
        ("/openapi.json", "describe", "GET"),
        ("/v1/models", "list_models", "GET"),
        ("/v1/models/{name:path}", "one_model", "GET"),
        ("/v1/chat/completions", "chat", "POST"),
        ("/v1/completions", "complete", "POST"),
        ("/v1/responses", "respond", "POST"),
        ("/tokenize", "tokenize", "POST"),
    ]
    page = page_paths()
    metrics = Metrics([*(path for path, _, _ in routes), "/"])
    server = _Server(models, options, metrics)

    made = [Route(path, PageFile(file), methods=["GET"]) for path, file in page.items()]
    made += [Route(path, getattr(server, name), methods=[method]) for path, name, method in routes]
    handlers = {RequestError: _refused, HTTPException: _no_route, Exception: _failed}
    app = Starlette(routes=made, exception_handlers=handlers)
    guard = Guard(app, key=key, hosts=hosts, most_waiting=max(1, options.connections // 2))
    return Counted(guard, metrics)


class _Server:
    def __init__(self, models: Models, options: ServeOptions, metrics: Metrics) -> None:
        self._models, self._options, self._metrics = models, options, metrics
        # Long requests may take seconds to read and encode; they do not get all of the threads that others need.
        self._long = asyncio.Semaphore(2)
        self._opening = asyncio.Lock()  # of requests that wait until a model is open, only one takes a thread

    async def health(self, request: Request) -> JsonResponse:
        jobs = [model.scheduler.jobs for model in self._models.opened()]
        active, waiting = sum(job[0] for job in jobs), sum(job[1] for job in jobs)
        return JsonResponse({"status": "ok", "active": active, "waiting": waiting})

    async def show_metrics(self, request: Request) -> TextResponse:
        return TextResponse(self._metrics.text(self._models, resident_bytes()), CONTENT_TYPE)

    async def describe(self, request: Request) -> JsonResponse:
        return JsonResponse(document(self._models.names))

    async def list_models(self, request: Request) -> JsonResponse:
        models = [self._models.describe(name) for name in self._models.names]
        return JsonResponse({"object": "list", "data": models})

    async def one_model(self, request: Request) -> JsonResponse:
        return JsonResponse(self._models.describe(self._models.find(request.path_params["name"])))

    async def chat(self, request: Request) -> Any:
        asked = await self._read(request, read_chat_request)
        answer = asked.answer
        async with self._model(answer.model) as model:
            reply = ChatReply(
                model.name,
                reasons=model.manifest.reasoning,
                choices=answer.choices,
                include_usage=answer.include_usage,
                running_usage=answer.running_usage,
            )
            return await self._answer(request, model, answer, reply, partial(model.chat_jobs, asked), "messages")

    async def complete(self, request: Request) -> Any:
        asked = await self._read(request, read_completion_request)
        answer = asked.answer
        async with self._model(answer.model) as model:
            reply = CompletionReply(
                model.name,
                echo=await _in_thread(partial(model.echoed, asked), "prompt"),
                choices=answer.choices,
                include_usage=answer.include_usage,
                running_usage=answer.running_usage,
            )
            return await self._answer(request, model, answer, reply, partial(model.completion_jobs, asked), "prompt")

    async def respond(self, request: Request) -> Any:
        asked = await self._read(request, read_response_request)
        answer = asked.chat.answer
        async with self._model(answer.model) as model:
            reply = ResponseReply(model.name, asked.echoed)
            return await self._answer(request, model, answer, reply, partial(model.chat_jobs, asked.chat), "input")

    async def tokenize(self, request: Request) -> JsonResponse:
        asked = await self._read(request, read_tokenize_request)
        async with self._model(asked.model) as model:
            param = "prompt" if isinstance(asked.prompt, str) else "messages"
            return await self._prepare(request, partial(_tokens, model, asked), param)

    async def _prepare(self, request: Request, work: Callable[[], _T], param: str) -> _T:
        """Render and encode a request's text in another thread."""
        async with self._long if request.state.is_long else nullcontext():
            return await _in_thread(work, param)

    async def _answer(
        self,
        request: Request,
        model: ServedModel,
        asked: AnswerRequest,
        reply: Reply,
        make_jobs: Callable[[Sequence[Emit]], list[Job]],
        param: str,
    ) -> Any:
        reader = Reader(asked.choices, model.scheduler.submit, model.scheduler.cancel)
        reader.start(await self._prepare(request, partial(make_jobs, reader.emits), param))

        def end() -> None:
            reader.close()
            for ended in reader.ended:
                self._metrics.answer(model.name, ended)
            for _ in range(asked.choices - len(reader.ended)):
                self._metrics.left(model.name)

        if asked.stream:
            release = self._models.hold(model)  # further answers are submitted when the first one has begun

            def closed() -> None:
                end()
                release()

            return EventStream(_events(reader, reply), closed)
        try:
            found = await while_connected(request.receive, reader.whole())
        finally:
            end()
        if found is None:  # nobody reads the response
            return JsonResponse(RequestError("the client has left", status=499).body, 499)
        return JsonResponse(reply.whole(found))

    @asynccontextmanager
    async def _model(self, name: str | None) -> AsyncIterator[ServedModel]:
        """The model that a request means, open until the end of the block and of the jobs that are submitted there."""
        found = self._models.find(name)
        use = self._models.use(found)
        try:
            async with nullcontext() if await asyncio.to_thread(self._models.is_open, found) else self._opening:
                model = await asyncio.to_thread(use.__enter__)
        except EdgekitError as error:
            raise unopened(error) from None
        try:
            yield model
        finally:
            use.__exit__(None, None, None)

    async def _read(self, request: Request, read: Callable[[Any], _T]) -> _T:
        """Read and check the body of a request; a long one in another thread, as the event loop serves all requests."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError(
                f"the header Content-Type is {kind!r}; it must be application/json", status=415, param="Content-Type"
            )
        try:
            body = await asyncio.wait_for(self._body(request), _BODY_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise RequestError(f"the body did not arrive within {_BODY_TIMEOUT_S:.0f} s", status=408) from None
        except ClientDisconnect:
            raise RequestError("the client has left", status=499) from None
        request.state.is_long = len(body) >= _LONG_BODY
        if not request.state.is_long:
            return read(parse_json(body))
        async with self._long:
            return await asyncio.to_thread(lambda: read(parse_json(body)))

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


def _tokens(model: ServedModel, asked: TokenizeRequest) -> JsonResponse:
    """The ids of a text. There may be millions, so this is done outside the event loop."""
    ids = model.tokenize(asked)
    rest = json_text({"count": len(ids), "max_model_len": model.context})
    return JsonResponse(f'{{"tokens": {json_list(ids)}, {rest[1:]}')


async def _events(reader: Reader, reply: Reply) -> AsyncIterator[bytes]:
    """The events of a stream."""
    begun = reply.begin()
    if begun:
        yield begun
    try:
        async for found in reader.events(_QUIET_S):
            if found is None:
                yield b": the answer goes on\n\n"
            elif isinstance(found[1], Ended):
                yield reply.end(found[0], found[1])
            else:
                yield reply.text(found[0], found[1])
        yield reply.finish(reader.ended)
    except RequestError as error:
        yield reply.fail(error)


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
    message = f"there is no {cut(path)}" if error.status_code == 404 else f"{method} {path}: {error.detail}"
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    return JsonResponse.of_error(RequestError(message, status=error.status_code, headers=headers))


async def _failed(request: Request, error: Exception) -> JsonResponse:
    return JsonResponse.of_error(RequestError("the server has failed; its log says why", status=500))
