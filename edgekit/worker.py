"""Runs a module of edgekit in a process of its own, with JSON between the two.

A worker keeps memory that an engine maps out of the build's process, and a crash of an engine is no crash of the build.
The request is one JSON object on the worker's standard input; it answers with JSON objects, one a line, on its standard
output. An object with the key ``error`` is the last one: a failure in words.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import EdgekitError

Message = Mapping[str, Any]

_PACKAGE_PARENT = Path(__file__).resolve().parents[1]  # the worker imports this very edgekit


def run_worker(module: str, request: Message) -> Iterator[dict[str, Any]]:
    """Start a worker and yield what it answers.

    Args:
        module: The module's full name; run as ``python -m MODULE``, it calls :func:`serve`.
        request: What the worker gets; values that JSON can hold.

    Yields:
        Each object the worker sends. If the worker ends without sending one that is marked as the last (``serve`` does
        that), a final ``{"error": message}`` says how it ended. The worker is killed if the caller stops listening.
    """
    path = os.pathsep.join([str(_PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = False
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            text=True, encoding="utf-8", env={**os.environ, "PYTHONPATH": path},
        ) as process,
    ):  # fmt: skip
        try:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("both are pipes")
            with suppress(BrokenPipeError):  # a worker that died before it read the request is reported below
                process.stdin.write(json.dumps(request))
                process.stdin.close()
            for line in process.stdout:
                message = json.loads(line)
                ended = bool(message.pop(_LAST, False))
                yield message
            code = process.wait()
        finally:
            process.kill()
        if not ended:
            stderr.seek(0)
            last_line = (stderr.read().strip() or "no message").splitlines()[-1]
            yield {"error": f"the worker process ended with exit code {code}: {last_line}"}


def serve(work: Callable[[Message, Callable[[Message], None]], Message]) -> None:
    """Be a worker: read the request, do the work, send the result.

    Args:
        work: Called with the request and a function that sends an intermediate message; returns the last message. An
            :class:`EdgekitError` or ValueError it raises is sent as ``{"error": message}``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and kills this process
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    request = json.load(sys.stdin)
    try:
        result = work(request, _send)
    except (EdgekitError, ValueError) as error:
        result = {"error": str(error)}
    _send({**result, _LAST: True})


_LAST = "last"


def _send(message: Message) -> None:
    print(json.dumps(message), flush=True)
