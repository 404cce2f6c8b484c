"""Runs a module of edgekit in a separate process and exchanges JSON with it.

The memory that an engine maps then belongs to the worker and not to the build, and a crash of an engine does not end
the build. The request is one JSON object on the worker's standard input. The worker answers with JSON objects, one per
line, on its standard output. An object with the key ``error`` describes a failure and is the last one.
"""

from __future__ import annotations

import ctypes
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
from .json_text import json_text
from .ort import NO_TELEMETRY

Message = Mapping[str, Any]

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_LAST = "last"  # a key of the last message
# As ``python -m``, which would import what the current folder holds before this package.
_START = (
    "import runpy, sys; sys.path[:] = [path for path in sys.path if path]; "
    "runpy.run_module(sys.argv[1], run_name='__main__')"
)
_PACKAGE_PARENT = Path(__file__).resolve().parents[1]  # the worker imports this very edgekit


def run_worker(module: str, request: Message) -> Iterator[dict[str, Any]]:
    """Start a worker and yield its answers.

    Args:
        module: The module's full name; run as ``python -m MODULE``, it calls :func:`serve`.
        request: The request; all values must be JSON values.

    Yields:
        Each object that the worker sends. ``serve`` marks the last one. If the worker ends without it, a final
        ``{"error": message}`` says how it ended. The worker is killed if the caller stops iterating.
    """
    path = os.pathsep.join([str(_PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = False
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                text=True, encoding="utf-8", env={**os.environ, **NO_TELEMETRY, "PYTHONPATH": path},
            )  # fmt: skip
        except OSError as error:  # a limit on processes or memory
            yield {"error": f"cannot start the worker process: {error.strerror}"}
            return
        with process:
            try:
                if process.stdin is None or process.stdout is None:
                    raise AssertionError("both are pipes")
                # A worker that died before it read the request is reported below.
                with suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(json_text(request))
                for line in process.stdout:
                    if not line.endswith("\n"):  # the worker was killed while it wrote a message
                        break
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
    """Run as the worker: read the request, do the work and send the result.

    Args:
        work: Called with the request and a function that sends an intermediate message. Returns the last message. If it
            raises an :class:`EdgekitError` or ValueError, ``{"error": message}`` is sent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and kills this process
    _end_with_parent()
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    request = json.load(sys.stdin)
    try:
        result = work(request, _send)
    except (EdgekitError, ValueError) as error:
        result = {"error": str(error)}
    _send({**result, _LAST: True})


def _end_with_parent() -> None:
    """Have the system kill this process when the thread that started it ends, also if that was killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _send(message: Message) -> None:
    print(json_text(message), flush=True)
