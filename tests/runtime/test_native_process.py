"""The native engine in a process that forks, or whose system starts no threads."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import open_engine
import pytest
from open_engine import engine
from shared_models import SharedModels

from edgekit import native
from edgekit.errors import ThreadsWarning


def run_script(script: str) -> str:
    """What a script prints, in a process of its own."""
    path = os.pathsep.join([str(Path(open_engine.__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_cannot_use_the_engine_and_opens_its_own(models: SharedModels) -> None:
    """Also if another thread of the parent is using the engine."""
    folder = str(models.artifact("llama", "int4 block 32"))
    script = f"""
import os, signal, threading, time
import numpy as np
from pathlib import Path
from edgekit.errors import EdgekitError
from open_engine import engine
folder = Path({folder!r})
e = engine(folder, "native", context=600, threads=4)
expected = e.evaluate([1, 2, 3])
ended = False
def use():
    while not ended:
        e.evaluate([5] * 500)
        e.rewind(3)
thread = threading.Thread(target=use)
thread.start()
time.sleep(0.05)
children = []
for i in range(4):
    time.sleep(0.003)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            e.evaluate([4])
        except EdgekitError as error:
            said = "is a fork of it" in str(error)
        e.cancel()
        e.close()
        own = engine(folder, "native", context=64, threads=4)
        same = np.array_equal(own.evaluate([1, 2, 3]), expected)
        os._exit(0 if said and same else 1)
    children.append(os.waitpid(child, 0)[1])
ended = True
thread.join()
print(children, e.position)
"""
    assert run_script(script) == "[0, 0, 0, 0] 3\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_of_a_session_is_told_and_ends(models: SharedModels) -> None:
    script = f"""
import asyncio, os, signal, threading, time
import edgekit
from edgekit import EdgekitError
session = edgekit.load({str(models.artifact("llama", "int4 block 32"))!r}, "native", context=600)
session.generate([1, 2], max_tokens=2).complete()
other = edgekit.AsyncSession(edgekit.load({str(models.artifact("llama", "int4 block 32"))!r}, "native", context=64))
async def ask():
    return await other.generate([1, 2], max_tokens=2).complete()
asyncio.run(ask())
answer = session.generate([1, 2, 3], max_tokens=590)
thread = threading.Thread(target=answer.complete)
thread.start()
time.sleep(0.05)
child = os.fork()
if child == 0:
    signal.alarm(30)
    told = 0
    calls = [lambda: session.generate([1], max_tokens=1).complete(),
             lambda: session.chat([{{"role": "user", "content": "a"}}]),
             lambda: session.save_state("/nowhere"), answer.stop, lambda: next(answer), lambda: asyncio.run(ask())]
    for call in calls:
        try:
            call()
        except EdgekitError as error:
            told += "is a fork of it" in str(error)
    session.cancel()
    session.close()
    os._exit(told)
status = os.waitpid(child, 0)[1]
session.close()
thread.join()
print(os.WEXITSTATUS(status), os.WIFEXITED(status))
"""
    assert run_script(script) == "6 True\n"


def test_fewer_threads_than_wanted_are_a_warning(models: SharedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    library = native.library()

    def threads(session: object, wanted: ctypes.c_int) -> int:
        wanted.value = 4
        return 1

    class Refusing:
        """The library, on a system that starts no threads."""

        def __getattr__(self, name: str) -> object:
            return threads if name == "ek_session_threads" else getattr(library, name)

    monkeypatch.setattr("edgekit.native.library", Refusing)
    with pytest.warns(ThreadsWarning, match="started only 1 of 4 threads"):
        engine(models.artifact("llama", "int4 block 32"), "native", context=16, threads=4).close()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs another user's limit of processes")
def test_where_no_thread_can_be_started_a_session_works_with_one(models: SharedModels) -> None:
    script = f"""
import os, resource, shutil, sys, tempfile, warnings
from pathlib import Path
from open_engine import engine
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp())
    shutil.copytree({str(models.artifact("llama", "int4 block 32"))!r}, folder, dirs_exist_ok=True)
    folder.chmod(0o755)
    first = engine(folder, "native", context=100, threads=4)
    os.setresuid(54321, 54321, 54321)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    e = type(first)(folder, 100, 3, False)  # engine() reads edgekit's folder, which this user may not be allowed to
    print((e.evaluate([5] * 64) == first.evaluate([5] * 64)).all())
    os._exit(shutil.rmtree(folder, ignore_errors=True) or sys.stdout.flush() or 0)
"""
    assert run_script(script) == "True\n"
