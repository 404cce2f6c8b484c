"""Keys, the socket, and, slowly, a server in a process of its own with OpenAI's client."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import blocks
from shared_models import SharedModels

pytest.importorskip("starlette", reason="needs the extra serve")
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
    with pytest.raises(UsageError, match="cannot read"):
        read_key(tmp_path / "none")


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
    command = [sys.executable, "-m", "edgekit.cli", "serve", f"tiny={models.artifact()}", f"r={reasoning_artifact}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [*command, "--port", "0", "--context", "256", "--threads", "1"],
        stderr=subprocess.PIPE, text=True, env=environment,
    ) as server:  # fmt: skip
        assert server.stderr is not None
        line = server.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield found[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0, "Ctrl-C is how a server ends"


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


@pytest.mark.slow
def test_the_examples_of_the_page_work(url: str) -> None:
    examples = [block.text for block in blocks(ROOT / "docs" / "server.md", "text")]
    assert len(examples) == 2
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
