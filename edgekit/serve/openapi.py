"""The OpenAPI document of the server, at ``/openapi.json``.

The schemas of requests are made from the definitions that check them, so they cannot differ from what the server does.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from typing import Any

from .chat_request import CHAT
from .completion_request import COMPLETION, TOKENIZE
from .fields import Json
from .records import Record
from .response_request import RESPONSE
from .response_schemas import RETURNED

# What any request can get, by its status; docs/server.md explains them.
_ANY = {
    400: "The request is wrong; the error names the field.",
    401: "The API key is missing or wrong.",
    403: "The server has no key, and the header Host or Origin is not this machine's.",
    405: "The route does not have this method.",
    408: "The request did not arrive in time.",
    429: "The queue is full, or there were too many wrong keys; the header Retry-After says when to try again.",
    500: "The server has failed.",
    503: "The server shuts down or has no connection or memory left, or the request waited too long.",
}
_BODY = {
    404: "There is no such model.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    501: "The request needs a package that the server does not have.",
}


@cache
def document(models: tuple[str, ...]) -> Json:
    """The document.

    Args:
        models: The names of the server's models.
    """
    schemas: dict[str, Json] = {name: dict(schema) for name, schema in RETURNED.items()}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": list(models)}}
    paths = {
        "/v1/chat/completions": {
            "post": _answers("chat", "Answer a conversation", CHAT, "ChatCompletion", "ChatCompletionChunk", schemas)
        },
        "/v1/completions": {
            "post": _answers("complete", "Continue a text", COMPLETION, "Completion", "Completion", schemas)
        },
        "/v1/responses": {
            "post": _answers(
                "respond",
                "Answer a conversation, in the form of OpenAI's responses",
                RESPONSE,
                "Response",
                None,
                schemas,
            )
        },
        "/tokenize": {"post": _posts("tokenize", "Return token ids", TOKENIZE, "Tokens", schemas)},
        "/v1/models": {"get": _gets("models", "List the models", _json("Models"))},
        "/v1/models/{name}": {
            "get": _gets("model", "Describe a model", _json("Model"), {404: "There is no such model."}, [name])
        },
        "/health": {"get": {**_gets("health", "Whether the server works", _json("Health")), "security": []}},
        "/metrics": {
            "get": _gets("metrics", "Counters, in Prometheus' format", {"text/plain": {"schema": {"type": "string"}}})
        },
        "/openapi.json": {
            "get": _gets("document", "This document", {"application/json": {"schema": {"type": "object"}}})
        },
    }
    for record in (CHAT, COMPLETION, RESPONSE, TOKENIZE):
        described = schemas[record.name]["properties"]["model"]
        words: Json = {"type": "string", "enum": list(models)}
        if len(models) == 1:
            schemas[record.name]["properties"]["model"] = {**described, "anyOf": [words, {"type": "null"}]}
        else:
            schemas[record.name]["properties"]["model"] = {"description": described["description"], **words}
            schemas[record.name].setdefault("required", []).append("model")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgekit serve",
            "version": _version(),
            "summary": "Answers of reasoning models, in the form of OpenAI's API.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def _version() -> str:
    try:
        return importlib.metadata.version("edgekit-llm")
    except importlib.metadata.PackageNotFoundError:  # it is run from its sources
        return "0"


def _answers(name: str, summary: str, record: Record, whole: str, chunk: str | None, schemas: dict[str, Json]) -> Json:
    made = _posts(name, summary, record, whole, schemas)
    events = f"Server-sent events, each with a {chunk}; the last one is [DONE]." if chunk else "Server-sent events."
    made["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"description": events}}
    return made


def _posts(name: str, summary: str, record: Record, returned: str, schemas: dict[str, Json]) -> Json:
    body = {"required": True, "content": {"application/json": {"schema": record.schema(schemas)}}}
    made = _gets(name, summary, _json(returned), _BODY)
    return {**made, "requestBody": body}


def _gets(
    name: str, summary: str, content: Json, statuses: dict[int, str] | None = None, parameters: Any = None
) -> Json:
    refused = {
        str(status): {"description": about, "content": _json("Error")}
        for status, about in sorted({**_ANY, **(statuses or {})}.items())
    }
    made: Json = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "What was asked for.", "content": content}, **refused},
    }
    return made if parameters is None else {**made, "parameters": parameters}


def _json(name: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
