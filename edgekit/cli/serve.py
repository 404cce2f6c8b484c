"""``edgekit serve``: an OpenAI-compatible server."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from ..errors import UsageError
from . import _options as options
from ._failures import needs_memory
from ._interrupts import Terminated, hangup_as_sigterm
from ._output import print_notes, print_planned_cache


@options.command(
    "edgekit serve smollm2-135m-cpu",
    "edgekit serve small=smollm2-135m-cpu r1=r1-1.5b-jetson --port 9000",
    "edgekit serve smollm2-135m-cpu --host 0.0.0.0 --api-key-file key.txt",
    see_also="edgekit run talks to an artifact without a server; docs/server.md describes the requests.",
)
@click.argument("artifacts", metavar="ARTIFACT...", nargs=-1, required=True)
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Listen on this address.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Listen on this port; 0 picks a free one.",
)
@click.option(
    "--api-key-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Require the key in this file from every request. Needed if other machines can reach the address  "
    "[default: the variable EDGEKIT_API_KEY]",
)
@options.count("--parallel", "Answer up to this many requests for a model at the same time", 8, metavar="N")
@options.count(
    "--caches",
    "Keep up to this many KV caches for a model, for later prompts that begin alike  [default: as --parallel]",
    metavar="N",
)
@options.size(
    "--prefix-memory",
    "Keep the beginnings of earlier prompts for a model in up to this much memory, such as 2GB, in addition to its KV "
    "caches  [default: as much as its KV caches need]",
)
@options.size(
    "--memory",
    "Use at most this much memory for all artifacts together; the least recently used are closed to make room for "
    "others  [default: no limit]",
)
@options.count("--queue", "Let up to this many requests for a model wait", 64, metavar="N", least=0)
@options.count("--connections", "Accept up to this many connections at the same time", 256, metavar="N")
@options.count("--max-tokens", "Generate at most this many tokens per answer  [default: as many as the context holds]")
@options.count(
    "--time-limit", "End an answer after this many seconds, including its time in the queue", 600, metavar="SECONDS"
)
@options.engine
@options.count("--context", "Make room for this many tokens of prompt and answer together  [default: as built]")
@options.threads
@options.kv_type
@options.public_key("Serve only artifacts that this key has signed")
@needs_memory(200)
def command(
    artifacts: tuple[str, ...],
    host: str,
    port: int,
    api_key_file: Path | None,
    parallel: int,
    caches: int | None,
    prefix_memory: int | None,
    memory: int | None,
    queue: int,
    connections: int,
    max_tokens: int | None,
    time_limit: int,
    engine: str,
    context: int | None,
    threads: int | None,
    kv_type: str | None,
    public_key: str | None,
) -> None:
    """Serve each ARTIFACT through an OpenAI-compatible API.

    ARTIFACT is a folder, whose name is the model's name in requests, or NAME=FOLDER. The first one is opened at once,
    the others when a request asks for them.

    Requests for one model are answered together: each step computes a token of every answer and reads the weights only
    once. Only this machine can reach the server unless you choose another --host; then every request needs a key.
    """
    try:
        from ..runtime.engine import EngineOptions
        from ..serve.models import Models, named_artifacts
        from ..serve.options import ServeOptions
        from ..serve.request_error import RequestError
        from ..serve.server import read_key, serve

        limits = ServeOptions(
            engine=engine,
            engine_options=EngineOptions(context=context, threads=threads, kv_type=kv_type, speculate=True),
            parallel=parallel,
            caches=caches or 0,
            prefix_bytes=prefix_memory,
            memory_bytes=memory,
            queue=queue,
            connections=connections,
            max_tokens=max_tokens,
            time_limit_s=float(time_limit),
            public_key=public_key,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    key = read_key(api_key_file)
    models = Models(named_artifacts(artifacts), limits)
    try:
        first = models.get(models.names[0])
    except RequestError as error:
        raise UsageError(error.message) from None
    print_planned_cache(first.manifest.plan, first.kv_type, kv_type)

    def ready(url: str) -> None:
        print_notes([f"{', '.join(models.names)}: chat at {url}, API at {url}/v1 (Ctrl-C ends the server)"])

    with suppress(KeyboardInterrupt, Terminated), hangup_as_sigterm():  # uvicorn raises the signal again at its end
        serve(models, limits, host=host, port=port, key=key, ready=ready)
