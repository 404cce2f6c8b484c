"""The load on a server (``tools/serve_load.py``), with a server in a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_models import SharedModels

import edgekit

ROOT = Path(__file__).parents[2]
pytest.importorskip("starlette", reason="needs the extra serve")
sys.path.insert(0, str(ROOT / "tools"))
from serve_load import Client, overhead, pauses, quote, resident_bytes, second_turn, soak, throughput  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(models: SharedModels) -> Iterator[tuple[Client, int]]:
    """A server whose arithmetic does not depend on which requests are computed together, and its process."""
    command = [sys.executable, "-m", "edgekit.cli", "serve", f"tiny={models.artifact()}", "--port", "0"]
    limits = ["--context", "600", "--threads", "1", "--parallel", "8", "--queue", "100", "--prefix-memory", "1MB"]
    environment = {
        **os.environ,
        "EDGEKIT_ISA": "scalar",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    process = subprocess.Popen([*command, *limits], stderr=subprocess.PIPE, text=True, env=environment)
    with process:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found
        yield Client(found[0], "tiny"), process.pid
        process.terminate()
        log = process.stderr.read()
        process.wait(20)
        assert log == "", "nothing is logged, even if clients leave"


def test_no_request_is_lost_or_mixed_up_while_a_third_of_the_clients_leave(server: tuple[Client, int]) -> None:
    client, pid = server
    asyncio.run(soak(client, 40, 20, 16))
    before = resident_bytes(pid)
    found = asyncio.run(soak(client, 150, 20, 16))
    assert found.different == []
    assert found.finished + found.left == 150
    assert 30 < found.left <= 50
    if sys.platform == "linux":
        assert resident_bytes(pid) - before < 16_000_000


def test_what_is_measured(server: tuple[Client, int], models: SharedModels) -> None:
    client, _ = server

    async def run() -> None:
        rates = await throughput(client, (1, 2), 8, 1)
        assert min(rates.values()) > 0
        gap = await pauses(client, 2, 15)
        assert gap.longest_before >= gap.usual > 0
        assert min(await second_turn(client, 5, 0.1, 10)) > 0
        assert await quote(client, 10, 8) > 0
        with edgekit.load(models.artifact(), engine="native", threads=1) as session:
            assert min(await overhead(client, session, 8)) > 0

    asyncio.run(run())
