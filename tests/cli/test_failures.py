"""What the exceptions of a command mean to its user."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.cli._failures import needs_memory, report, reported
from edgekit.errors import EdgekitError, EngineError, MissingPackageError, OutOfMemoryError, UsageError

ROOT = Path(__file__).parents[2]


def _numpys() -> ImportError:
    error = ImportError("IMPORTANT: PLEASE READ THIS")
    error.__cause__ = ImportError("libscipy_openblas64_.so: failed to map segment from shared object")
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("x.so: cannot allocate memory in static TLS block"),
        RuntimeError("[ONNXRuntimeError] : 6 : Exception during initialization: std::bad_alloc"),
        _numpys(),
    ],
    ids=["Python", "the system", "the loader", "onnxruntime", "numpy"],
)
def test_too_little_memory_is_told(error: Exception) -> None:
    found = reported(error)
    assert isinstance(found, OutOfMemoryError)
    assert "ulimit -v" in found.hint


def test_what_cannot_be_opened_is_told_and_bugs_are_not() -> None:
    own = EdgekitError("message")
    assert reported(own) is own
    found = reported(PermissionError(errno.EACCES, "Permission denied", "a" * 300))
    assert isinstance(found, UsageError)
    assert found.message == f"cannot open {'a' * 100}...: Permission denied"
    assert isinstance(reported(ModuleNotFoundError("no onnx", name="onnx")), MissingPackageError)
    bugs: list[Exception] = [
        RuntimeError("bug"), ImportError("cannot import name"), OSError(errno.EACCES, "no name"),
        ValueError("bad_alloc"), FileNotFoundError(errno.ENOENT, "No such file", "x"),
        ModuleNotFoundError("no mine", name="mine"),
    ]  # fmt: skip
    assert [reported(bug) for bug in bugs] == [None] * len(bugs)


@pytest.mark.parametrize(("limit", "refused"), [(None, False), (300_000_000, False), (299_999_999, True)])
def test_a_command_needs_address_space(monkeypatch: pytest.MonkeyPatch, limit: int | None, refused: bool) -> None:
    command: Callable[[int], int] = needs_memory(300)(lambda value: value + 1)
    monkeypatch.setattr("edgekit.cli._failures.address_space", lambda: limit)
    if not refused:
        assert command(1) == 2
        return
    with pytest.raises(OutOfMemoryError, match="may use 300 MB of address space; the command needs 300 MB"):
        command(1)


@pytest.mark.parametrize(("refused", "value"), [(False, None), (True, "1")])
def test_without_threads_openblas_does_without_them(
    monkeypatch: pytest.MonkeyPatch, refused: bool, value: str | None
) -> None:
    def check(threads: int) -> None:
        if refused:
            raise EngineError("cannot start 2 threads")

    monkeypatch.setattr("edgekit.cli._failures.check_threads", check)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    seen: Callable[[], str | None] = needs_memory(1)(lambda: os.environ.get("OPENBLAS_NUM_THREADS"))
    assert seen() == value
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    assert seen() == "3"


def test_an_error_is_printed_without_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(error: EdgekitError) -> None:
        raise MemoryError

    monkeypatch.setattr("edgekit.cli._failures.print_error", full)
    report(OutOfMemoryError("no more memory"))
    assert capsys.readouterr().err == "error: no more memory\n"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize(("megabytes", "code"), [(150, 4), (40, 4)])
def test_libraries_that_end_the_process_are_not_loaded(tmp_path: Path, megabytes: int, code: int) -> None:
    command = f"ulimit -v {megabytes * 1000}; exec {sys.executable} -m edgekit.cli run {tmp_path} --prompt x"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert done.stderr.startswith("error: this process may use ")
    assert done.stderr.count("\n") == 2
