"""Worker processes: results, failures and crashes reach the caller as messages; no worker outlives its caller."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.worker import run_worker

Install = Callable[[str], str]
# Much more than a pipe buffers, which is 64 KiB on Linux and at most 1 MiB.
LARGE = "x" * (4 << 20)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``module(code)`` makes a module that a worker can run, and returns its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def install(code: str) -> str:
        (tmp_path / "tiny_worker.py").write_text(textwrap.dedent(code), encoding="utf-8")
        return "tiny_worker"

    return install


def answers(module: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    return list(run_worker(module, request))


HEADER = """
import os, sys, time
from edgekit.errors import EngineError
from edgekit.worker import serve

def work(request, send):
"""


def serving(body: str) -> str:
    """A module whose worker does ``body`` with ``request`` and ``send``."""
    return HEADER + textwrap.indent(textwrap.dedent(body), "    ") + "\nserve(work)\n"


def test_intermediate_messages_come_before_the_result(module: Install) -> None:
    code = """
        for number in range(request["count"]):
            send({"number": number})
        return {"text": request["text"] + "!"}
    """
    found = answers(module(serving(code)), {"count": 2, "text": "Größe, 你好, 🙂"})
    assert found == [{"number": 0}, {"number": 1}, {"text": "Größe, 你好, 🙂!"}]


def test_messages_arrive_while_the_worker_runs(module: Install, tmp_path: Path) -> None:
    """The worker waits for a file that the caller creates only after it has received a message."""
    code = """
        send({"ready": True})
        while not os.path.exists(request["signal"]):
            time.sleep(0.01)
        return {"done": True}
    """
    messages = run_worker(module(serving(code)), {"signal": str(tmp_path / "signal")})
    assert next(messages) == {"ready": True}
    (tmp_path / "signal").touch()
    assert list(messages) == [{"done": True}]


def test_large_messages_both_ways(module: Install) -> None:
    found = answers(module(serving("return {'text': request['text']}")), {"text": LARGE})
    assert found == [{"text": LARGE}]


@pytest.mark.parametrize("error", ["EngineError('no room', hint='close something')", "ValueError('no room')"])
def test_an_expected_error_is_the_last_message(module: Install, error: str) -> None:
    assert answers(module(serving(f"send({{'number': 0}})\nraise {error}")), {}) == [
        {"number": 0},
        {"error": "no room"},
    ]


def test_an_unexpected_error_is_reported_by_its_last_line(module: Install) -> None:
    (found,) = answers(module(serving("raise KeyError('weights')")), {})
    assert found == {"error": "the worker process ended with exit code 1: KeyError: 'weights'"}


def test_a_crash_is_reported_with_its_exit_code(module: Install) -> None:
    code = """
        send({"number": 0})
        print("out of cake", file=sys.stderr, flush=True)
        os.abort()
    """
    first, last = answers(module(serving(code)), {})
    assert first == {"number": 0}
    assert last == {"error": "the worker process ended with exit code -6: out of cake"}


def test_a_worker_that_ends_in_silence(module: Install) -> None:
    (found,) = answers(module(serving("os._exit(3)")), {})
    assert found == {"error": "the worker process ended with exit code 3: no message"}


def test_half_a_message_is_no_message(module: Install) -> None:
    """A worker that is killed while it writes leaves an incomplete line."""
    code = """
        sys.stdout.write('{"texts": [[1, 2')
        sys.stdout.flush()
        os._exit(9)
    """
    (found,) = answers(module(serving(code)), {})
    assert found == {"error": "the worker process ended with exit code 9: no message"}


@pytest.mark.parametrize("text", ["", LARGE], ids=["small", "larger than a pipe"])
def test_a_worker_that_dies_before_it_reads_the_request(module: Install, text: str) -> None:
    name = module("import sys\nsys.stdin.close()\nsys.exit('no such library')\n")
    (found,) = answers(name, {"text": text})
    assert found == {"error": "the worker process ended with exit code 1: no such library"}


def test_a_module_that_does_not_exist() -> None:
    (found,) = answers("edgekit.no_such_module", {})
    assert found["error"].startswith("the worker process ended with exit code 1: ")
    assert "no_such_module" in found["error"]


def test_a_worker_is_killed_when_the_caller_stops_listening(module: Install) -> None:
    code = """
        send({"pid": os.getpid()})
        time.sleep(600)
        return {}
    """
    messages = run_worker(module(serving(code)), {})
    pid = next(messages)["pid"]
    os.kill(pid, 0)  # it runs
    messages.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_imports_the_callers_edgekit(module: Install) -> None:
    import edgekit

    code = "import edgekit\nreturn {'file': edgekit.__file__}"
    assert answers(module(serving(code)), {}) == [{"file": edgekit.__file__}]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker ends when it sends its next message")
def test_a_worker_ends_when_its_caller_is_killed(module: Install, tmp_path: Path) -> None:
    name = module(serving('send({"pid": os.getpid()}); time.sleep(60)'))
    caller = f"from edgekit.worker import run_worker\nfor m in run_worker({name!r}, {{}}): print(m['pid'], flush=True)"
    with subprocess.Popen([sys.executable, "-c", caller], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    end = time.monotonic() + 20
    while time.monotonic() < end and _runs(pid):
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Whether a process exists that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
