"""A whole request to the server, from its path and headers to the answer of a tiny model.

The input is a JSON object with ``method``, ``path``, ``headers`` and ``body``. A body that is a text is sent as it is.
"""

import atexit
import contextlib
import json
from functools import cache, partial
from typing import Any

import fuzz_changes
from asgi_client import Response, request
from fuzz_files import artifact, as_json

from edgekit.json_file import parse_json_object
from edgekit.runtime.engine import EngineOptions
from edgekit.serve.app import make_app
from edgekit.serve.models import Models
from edgekit.serve.options import ServeOptions

__all__ = ["change", "read", "seeds"]
MEGABYTES = 500  # of which half is the process itself
_USER = {"role": "user", "content": "Hello"}
_FUNCTION = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
_CHAT, _COMPLETIONS, _RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"


def seeds() -> list[bytes]:
    named = {"name": "x", "schema": {"enum": ["yes", "no"]}}
    schema = {"type": "json_schema", "json_schema": named}
    image = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    tools = {"tools": [{"type": "function", "function": _FUNCTION}], "tool_choice": "required"}
    posts: list[tuple[str, Any]] = [
        (_CHAT, {"model": "tiny", "messages": [{"role": "system", "content": "Be brief."}, _USER], "max_tokens": 3}),
        (_CHAT, {"messages": [_USER], "logprobs": True, "top_logprobs": 2, "seed": 7, "temperature": 1.5, "n": 2}),
        (_CHAT, {"messages": [_USER], "stream": True, "stream_options": {"include_usage": True}, "stop": ["a", "e"]}),
        (_CHAT, {"messages": [_USER], "response_format": schema, "user": "me", "top_p": 0.9}),
        (_CHAT, {"messages": [_USER], **tools, "parallel_tool_calls": False, "stream": True}),
        (_CHAT, {"messages": [{"role": "user", "content": image}], "max_completion_tokens": 2}),
        (_COMPLETIONS, {"prompt": "Once", "max_tokens": 2, "logprobs": 1, "echo": False, "min_p": 0.1, "top_k": 3}),
        (_COMPLETIONS, {"prompt": [1, 2, 3], "stream": True, "repetition_penalty": 1.2, "logit_bias": {}}),
        (_RESPONSES, {"input": "Hello", "instructions": "x", "stream": True, "max_output_tokens": 3}),
        (
            _RESPONSES,
            {
                "input": [_USER],
                "tools": [{"type": "function", **_FUNCTION}],
                "text": {"format": {"type": "json_schema", **named}},
            },
        ),
        ("/tokenize", {"messages": [_USER], "add_special_tokens": True}),
        ("/tokenize", {"prompt": "Once upon a time", "add_special_tokens": False}),
    ]
    found = [{"method": "POST", "path": path, "headers": {}, "body": body} for path, body in posts]
    for path in ("/health", "/metrics", "/openapi.json", "/v1/models", "/v1/models/tiny", "/", "/nothing"):
        found.append({"method": "GET", "path": path, "headers": {"origin": "http://127.0.0.1:8080"}, "body": ""})
    more = {"authorization": "Bearer x", "content-type": "text/plain", "accept": "*/*", "content-encoding": "gzip"}
    found.append({"method": "OPTIONS", "path": _CHAT, "headers": {**more, "host": "example.com"}, "body": "{"})
    return as_json(*found)


change = partial(fuzz_changes.json_change, others=seeds())


@cache
def _app() -> Any:
    options = ServeOptions(
        engine_options=EngineOptions(context=640, threads=1), max_tokens=4, time_limit_s=5, parallel=2
    )
    models = Models({"tiny": artifact("server", context=1024)}, options)
    atexit.register(models.close)
    return make_app(models, options, key=None, hosts=frozenset({"127.0.0.1"}))


def read(data: bytes) -> None:
    content = parse_json_object(data, "input")
    body, given = content.get("body"), content.get("headers")
    headers = {}
    for name, value in given.items() if isinstance(given, dict) else ():
        with contextlib.suppress(UnicodeEncodeError):
            headers[name.lower().encode("latin-1").decode()] = str(value).encode("latin-1").decode("latin-1")
    path, method = (str(content.get(name)).encode(errors="replace").decode() for name in ("path", "method"))
    raw = body.encode(errors="replace") if isinstance(body, str) else json.dumps(body).encode()
    response = request(_app(), method, path, raw, headers=headers)
    if method != "HEAD":  # which has no body
        _check(response)


def _check(response: Response) -> None:
    """The server never fails, and what it says is JSON is JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in an answer")

    assert response.status != 500, response.body
    if response.headers.get("content-type", "").startswith("application/json"):
        json.loads(response.body, parse_constant=refuse)
