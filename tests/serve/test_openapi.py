from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgekit import serve
from edgekit.serve.chat_request import CHAT
from edgekit.serve.openapi import document


def refs(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(refs, value.values()))
    return set().union(*map(refs, value)) if isinstance(value, list) else set()


def test_every_schema_that_is_referred_to_exists_and_is_used() -> None:
    found = document(("a",))
    names = {ref.removeprefix("#/components/schemas/") for ref in refs(found)}
    assert names <= found["components"]["schemas"].keys()
    assert found["components"]["schemas"].keys() - names == {"ChatCompletionChunk"}  # of events, which have no schema


def test_the_fields_are_those_that_are_checked() -> None:
    schema = document(("a",))["components"]["schemas"]["ChatCompletionRequest"]
    assert schema["properties"].keys() == CHAT.fields.keys()
    assert schema["required"] == ["messages"]


def test_the_models_are_named() -> None:
    one, two = (document(names)["components"]["schemas"]["TokenizeRequest"] for names in (("a",), ("a", "b")))
    assert one["properties"]["model"]["anyOf"] == [{"type": "string", "enum": ["a"]}, {"type": "null"}]
    assert two["properties"]["model"]["enum"] == ["a", "b"]
    assert ("required" in one, two["required"]) == (False, ["model"])


def test_every_route_is_described(make_app: Any) -> None:
    app = make_app()
    inner = app._app._app
    served = {(re.sub(r":\w+", "", route.path), method) for route in inner.routes for method in route.methods}
    described = {(path, method.upper()) for path, methods in document(("a",))["paths"].items() for method in methods}
    pages = {(path, method) for path, method in served if path == "/" or path.startswith("/page/")}
    assert served - pages - {(path, "HEAD") for path, _ in served} == described


def test_every_status_is_described() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(serve.__file__).parent.glob("*.py"))
    used = set(re.findall(r"\bstatus=(\d{3})", sources)) - {"499"}  # nobody is there to get it
    assert len(used) > 8
    described = document(("a",))["paths"]["/v1/chat/completions"]["post"]["responses"].keys()
    assert used <= described
