"""What the exceptions of a command mean to its user: a message with an exit code, or a traceback for a bug."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ..errors import EdgekitError, EngineError, OutOfMemoryError, missing_package, unreachable_path
from ..host import address_space
from ..threads import MOST_THREADS, check_threads
from ..units import format_bytes
from ._output import print_error

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_MEGABYTE = 10**6
# What the dynamic loader and C++ say. The loader's errors are ImportErrors, which numpy packs into others.
_NO_MEMORY = ("failed to map segment", "cannot allocate memory", "bad_alloc")
_RAISE = "raise the limits on memory: ulimit -v unlimited, or those of the container"


def reported(error: BaseException) -> EdgekitError | None:
    """The error that a user is told; None for a bug, which shows a traceback.

    Args:
        error: What ended a command.
    """
    if isinstance(error, EdgekitError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error)
    if _lacks_memory(error):
        return OutOfMemoryError("the system gives this process no more memory", hint=_RAISE)
    return unreachable_path(error) if isinstance(error, OSError) else None


def needs_memory(least_mb: int) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Decorate a command's function that loads libraries which end the process if they get no memory.

    Args:
        least_mb: Megabytes of address space with which the command works for a tiny model.
    """

    def decorate(command: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @functools.wraps(command)
        def checked(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            limit = address_space()
            if limit is not None and limit < least_mb * _MEGABYTE:
                raise OutOfMemoryError(
                    f"this process may use {format_bytes(limit)} of address space; the command needs "
                    f"{format_bytes(least_mb * _MEGABYTE)} for the libraries alone",
                    hint=_RAISE,
                )
            _fit_blas()
            return command(*args, **kwargs)

        return checked

    return decorate


def report(error: EdgekitError) -> None:
    """Print an error as :func:`~edgekit.cli._output.print_error` does, or plainly if there is no memory for that."""
    try:
        print_error(error)
    except MemoryError:
        sys.stderr.write(f"error: {error.message}\n")


def _fit_blas() -> None:
    """Have OpenBLAS do without threads where the system does not start them: it would interrupt the program."""
    try:
        check_threads(min(os.cpu_count() or 1, MOST_THREADS))
    except EngineError:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _lacks_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        foreign = isinstance(error, (ImportError, RuntimeError)) or type(error).__module__.startswith("onnxruntime")
        if foreign and any(phrase in str(error).lower() for phrase in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
