"""``edgekit serve`` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def running_server(artifacts: Mapping[str, Path], *options: str, end: int = signal.SIGINT) -> Iterator[str]:
    """A server, ended with Ctrl-C or another signal when the block is left.

    Args:
        artifacts: The artifacts by name.
        options: Further options of the command.
        end: The signal.

    Yields:
        Its URL.
    """
    named = [f"{name}={folder}" for name, folder in artifacts.items()]
    command = [sys.executable, "-m", "edgekit.cli", "serve", *named, "--port", "0", "--threads", "1", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        try:
            yield found[0]
        finally:
            server.send_signal(end)
            ended, said = server.wait(20), server.stderr.read()
        assert (ended, said) == (0, ""), "a signal is how a server ends"
