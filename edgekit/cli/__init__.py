"""The ``edgekit`` command: every module of this package that does not start with an underscore is a subcommand.

A command module holds one click command named ``command``, which parses its options, calls the library and prints the
result. It imports whatever is slow to import (numpy, onnx, rich) inside the command, because ``edgekit --help`` imports
every command module for its one-line description.
"""

from __future__ import annotations

import atexit
import errno
import importlib
import io
import os
import pkgutil
import sys
import warnings
from contextlib import suppress
from typing import Any, TextIO

import click
from click.shell_completion import shell_complete

from ..errors import (
    DiscardedStateWarning,
    DiskFullError,
    EdgekitError,
    EngineFallbackWarning,
    EngineProofNotice,
    ThreadsWarning,
)
from ..ort import NO_TELEMETRY
from ._failures import report, reported
from ._interrupts import Terminated, ignore_signals, raised_interrupts
from ._output import print_error, print_notes, wants_json

# OPENBLAS_THREAD_TIMEOUT, which OpenBLAS reads when a command loads numpy. Between two products its threads wait
# actively, by default for 2^26 cycles (about 20 ms), on the cores that edgekit's and onnxruntime's kernels need: on two
# cores these then run at half their speed. 2^4 cycles is the shortest wait. A value set by the user is kept.
_OPENBLAS_TIMEOUT = "4"
_NOTES = (DiscardedStateWarning, EngineFallbackWarning, EngineProofNotice, ThreadsWarning)
_COMPLETION = "_EDGEKIT_COMPLETE"  # set by a shell that completes a command line, to what it asks for
_OUTPUT_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # writing to a redirected stream failed


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from ..errors import nearest

            ctx.fail(f"there is no command {name!r}; {nearest(name, self.list_commands(ctx))}")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="edgekit-llm", prog_name="edgekit")
def cli() -> None:
    """Plan, build, check and run language models on edge devices.

    \b
    Start here:
      edgekit plan --device jetson                  See which models fit a device.
      edgekit build smollm2-135m --device cpu       Build a small model for this machine.
      edgekit run smollm2-135m-cpu                  Talk to it.
      edgekit devices                               List the devices edgekit knows.
      edgekit recipes                               List the models edgekit can build.
    """


def main() -> None:
    """Run the command line. An :class:`EdgekitError` becomes a message and the exit code of its class."""
    _open_closed_streams()
    _escape_what_is_not_encodable()
    _drop_unwritable_messages()
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", _OPENBLAS_TIMEOUT)
    os.environ.update(NO_TELEMETRY)
    warnings.showwarning = _show_warning
    atexit.register(ignore_signals)
    try:
        with raised_interrupts():
            _run()
    except BrokenPipeError:
        _discard_output()
        sys.exit(141)  # what a shell reports for a program that SIGPIPE ended
    except OSError as error:
        if error.errno not in _OUTPUT_REFUSED or error.filename is not None:
            raise  # a bug, unrelated to the output
        sys.stderr.write(f"error: cannot write the output: {error.strerror}\n")
        sys.stderr.flush()
        _discard_output()
        sys.exit(DiskFullError.exit_code)


def _run() -> None:
    try:
        if instruction := os.environ.get(_COMPLETION):
            sys.exit(shell_complete(cli, {}, "edgekit", _COMPLETION, instruction))
        # Not cli.main(), which turns a broken pipe into exit code 1.
        with cli.make_context("edgekit", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as ended:  # --help and --version
        sys.exit(ended.exit_code)
    except click.ClickException as error:
        if wants_json():
            print_error(EdgekitError(error.format_message()), kind="usage")
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, EOFError, KeyboardInterrupt):
        ignore_signals()  # a second one must not interrupt the message
        print_error(EdgekitError("interrupted"), kind="interrupted")
        sys.exit(130)
    except Terminated:
        ignore_signals()
        with suppress(OSError):  # the terminal may be gone
            print_error(EdgekitError("terminated"), kind="terminated")
        raise
    except Exception as error:
        failure = reported(error)
        if failure is None:
            raise
        ignore_signals()
        report(failure)
        sys.exit(failure.exit_code)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show edgekit's own warnings as notes, and others as Python does."""
    if issubclass(category, _NOTES):
        print_notes([str(message)])
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _open_closed_streams() -> None:
    """Give standard streams that the caller has closed a reader or writer of nothing.

    Python has None in their place. The next file that is opened would get the number of the closed one, so that a
    library's messages would end up in it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            os.fstat(number)  # in use for something else since the program began
        except OSError:
            os.dup2(nowhere, number)
            os.close(nowhere)
            nowhere = number
        setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", errors="replace"))


def _escape_what_is_not_encodable() -> None:
    """Write characters that standard output's encoding does not have as escapes, as standard error does.

    The name of a file may have bytes that are not UTF-8; they would end a command whose work is done with a traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


class _Messages(io.RawIOBase):
    """Standard error to a file, on a disk that may fill up: what cannot be written is dropped, and the work goes on."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        try:
            return os.write(self._number, content)
        except OSError as error:
            if error.errno not in _OUTPUT_REFUSED:
                raise
            return len(content)


def _drop_unwritable_messages() -> None:
    stream, own = sys.stderr, sys.__stderr__
    if own is not None and stream is own and not own.isatty():
        messages = io.BufferedWriter(_Messages(own.fileno()))
        sys.stderr = io.TextIOWrapper(messages, own.encoding, own.errors, line_buffering=True)


def _discard_output() -> None:
    """Drop what is still buffered. It has no reader, and flushing it when the interpreter ends would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
