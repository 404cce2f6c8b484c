"""Keys, the socket, and, slowly, a server in a process of its own with OpenAI's client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pages import blocks
from running_server import running_server
from shared_models import SharedModels

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("pydantic", reason="needs the extra structured")
from pydantic import BaseModel

from edgekit.errors import ServerError, UsageError
from edgekit.serve.models import Models
from edgekit.serve.options import ServeOptions
from edgekit.serve.server import KEY_VARIABLE, read_key, serve

ROOT = Path(__file__).parents[2]


def test_a_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_key(None) is None
    monkeypatch.setenv(KEY_VARIABLE, "e" * 20)
    assert read_key(None) == "e" * 20
    path = tmp_path / "key"
    path.write_text("f" * 16 + "\n")
    assert read_key(path) == "f" * 16
    for wrong in ("", "short", "with a space in the middle", "ü" * 20):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(UsageError, match="it must have at least 16"):
            read_key(path)
    path.write_bytes(b"\xff" * 20)
    with pytest.raises(UsageError, match="key cannot be read: it is not UTF-8"):
        read_key(path)
    path.write_text("k" * 5000)
    with pytest.raises(UsageError, match="key is larger than the limit of 4096 bytes"):
        read_key(path)
    with pytest.raises(UsageError, match="none cannot be read: No such file or directory"):
        read_key(tmp_path / "none")


@pytest.mark.skipif(os.name != "posix", reason="named pipes and devices of Unix")
def test_a_key_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UsageError, match="cannot be read: it is not a regular file"):
            read_key(path)


def run(models: SharedModels, host: str, port: int) -> None:
    options = ServeOptions()
    found = Models({"tiny": models.artifact()}, options)
    serve(found, options, host=host, port=port, key=None, ready=lambda url: None)


def test_an_address_that_others_reach_needs_a_key(models: SharedModels) -> None:
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0 can be reached from other machines"):
        run(models, "0.0.0.0", 0)  # noqa: S104


def test_a_port_in_use_is_an_error(models: SharedModels) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            ServerError, match=rf"cannot bind 127\.0\.0\.1, port {port}: Address already in use"
        ) as caught:
            run(models, "127.0.0.1", port)
    assert "--port" in caught.value.hint


@pytest.fixture
def url(models: SharedModels, reasoning_artifact: Path) -> Iterator[str]:
    """A server in a process of its own."""
    with running_server({"tiny": models.artifact(), "r": reasoning_artifact}, "--context", "256") as found:
        yield found


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_end_a_server_in_order(models: SharedModels, name: str) -> None:
    with running_server({"tiny": models.artifact()}, "--context", "256", end=getattr(signal, name)) as url:
        assert urllib.request.urlopen(f"{url}/health").status == 200  # noqa: S310


@pytest.mark.slow
def test_openais_client_works(url: str) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    messages: Any = [{"role": "user", "content": "Hello"}]
    assert [model.id for model in client.models.list()] == ["tiny", "r"]
    whole = client.chat.completions.create(model="tiny", messages=messages, max_tokens=8, temperature=0)
    chunks = client.chat.completions.create(
        model="tiny",
        messages=messages,
        max_tokens=8,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    thought = client.chat.completions.create(model="r", messages=messages, reasoning_effort="low", max_tokens=20)
    assert thought.usage is not None
    assert thought.usage.completion_tokens_details is not None
    assert thought.usage.completion_tokens_details.reasoning_tokens
    assert client.completions.create(model="tiny", prompt="Once", max_tokens=4).choices[0].text
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        client.chat.completions.create(model="gpt", messages=messages)
    with pytest.raises(openai.BadRequestError, match="the context holds 256"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x " * 500}])
    asyncio.run(_asynchronously(url, messages, whole.choices[0].message.content))


class Verdict(BaseModel):
    answer: Literal["yes", "no"]


@pytest.mark.slow
def test_openais_client_gets_calls_and_objects(models: SharedModels) -> None:
    import openai

    schema = {"type": "object", "properties": {"number": {"enum": [1, 2]}}, "required": ["number"]}
    function = {"name": "pick", "description": "Picks.", "parameters": {**schema, "additionalProperties": False}}
    tools: Any = [{"type": "function", "function": function}]
    messages: Any = [{"role": "user", "content": "Pick one."}]
    with running_server({"tiny": models.artifact()}, "--context", "700") as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        chat = client.chat.completions
        settings: Any = {"model": "tiny", "max_tokens": 300, "temperature": 0}
        parsed = chat.parse(messages=messages, response_format=Verdict, **settings).choices[0].message.parsed
        assert isinstance(parsed, Verdict)
        wanted: Any = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
        message = chat.create(messages=messages, **wanted, **settings).choices[0].message
        assert message.tool_calls
        call: Any = message.tool_calls[0]
        assert json.loads(call.function.arguments)["number"] in (1, 2)
        with chat.stream(messages=messages, **wanted, **settings) as stream:
            final = stream.get_final_completion().choices[0]
        assert final.finish_reason == "tool_calls"
        assert final.message.tool_calls is not None
        assert final.message.tool_calls[0].function.arguments == call.function.arguments
        said: Any = [*messages, message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "1"}]
        assert len(chat.create(messages=said, tools=tools, n=2, **{**settings, "max_tokens": 4}).choices) == 2
        assert client.completions.create(prompt="Once", logprobs=1, **settings).choices[0].logprobs
        _responses(client, tools)


def _responses(client: Any, tools: Any) -> None:
    settings: Any = {"model": "tiny", "max_output_tokens": 300, "temperature": 0}
    short: Any = {**settings, "max_output_tokens": 8}
    whole = client.responses.create(input="Hello", instructions="Be brief.", **short)
    assert (whole.status, whole.usage.output_tokens) in {("incomplete", 8), ("completed", whole.usage.output_tokens)}
    with client.responses.stream(input="Hello", instructions="Be brief.", **short) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert events[-1].response.output_text == whole.output_text
    assert (kinds[0], "response.output_text.delta" in kinds) == ("response.created", True)
    assert isinstance(client.responses.parse(input="Is it so?", text_format=Verdict, **settings).output_parsed, Verdict)
    flat = [{"type": "function", **tools[0]["function"]}]
    called = client.responses.create(
        input="Pick one.", tools=flat, tool_choice="required", parallel_tool_calls=False, **settings
    )
    call = called.output[-1]
    assert (call.type, json.loads(call.arguments)["number"] in (1, 2)) == ("function_call", True)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "1"}
    assert client.responses.create(
        input=[{"role": "user", "content": "Pick one."}, *called.output, result], **short
    ).output


@pytest.mark.slow
def test_the_examples_of_the_page_work(models: SharedModels) -> None:
    examples = [block.text for block in blocks(ROOT / "docs" / "server.md", "text")]
    assert len(examples) == 3
    with running_server({"tiny": models.artifact()}, "--context", "700") as url:
        for text in examples:
            command = [sys.executable, "-c"] if text.startswith("import") else ["bash", "-ec"]
            here = text.replace("http://127.0.0.1:8080", url).replace("smollm2-135m-cpu", "tiny")
            done = subprocess.run([*command, here], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout
            assert "error" not in done.stdout


async def _asynchronously(url: str, messages: Any, expected: str | None) -> None:
    import openai

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:

        async def ask(stream: bool) -> str:
            found: Any = await client.chat.completions.create(
                model="tiny", messages=messages, max_tokens=8, temperature=0, stream=stream
            )
            if not stream:
                return str(found.choices[0].message.content)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in found])

        assert await ask(stream=False) == await ask(stream=True) == expected
        assert all(await asyncio.gather(*(ask(stream=i % 2 == 0) for i in range(6))))
