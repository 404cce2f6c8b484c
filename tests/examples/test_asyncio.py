from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "asyncio" / "server.py"


def test_a_server_streams_answers(built_artifact: Path) -> None:
    with subprocess.Popen([sys.executable, EXAMPLE, built_artifact, "0"], stdout=-1, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip().removeprefix("http://")
        try:
            connection = http.client.HTTPConnection(address, timeout=60)
            connection.request("POST", "/", b"What is 2 + 2?")
            response = connection.getresponse()
            assert response.status == 200
            response.read()
            assert server.stdout.readline() == "answered\n"
            connection = http.client.HTTPConnection(address, timeout=60)
            connection.request("POST", "/", b"long " * 20_000)
            response = connection.getresponse()
            assert response.status == 400
            assert b"tokens; the context holds" in response.read()
            assert server.stdout.readline().startswith("refused: the prompt has")
            connection = http.client.HTTPConnection(address, timeout=60)
            connection.request("POST", "/", b"?", {"Content-Length": "many"})
            assert connection.getresponse().status == 400
            assert server.stdout.readline().startswith("not a request: ")
        finally:
            server.terminate()
