"""The ``edgekit`` command: every module of this package that does not start with an underscore is a subcommand.

A command module holds one click command named ``command``; it parses, calls the library and prints, and has no logic
of its own. Modules are imported only when their command runs, so ``edgekit --help`` stays quick.
"""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..errors import DiskFullError, EdgekitError
from ._output import print_error, wants_json

_OUTPUT_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # by a stream that is redirected to a file


class _OutputClosedError(Exception):
    """Whoever read our output has left, as in ``edgekit run ... | head``."""


@contextmanager
def _noticing_closed_output() -> Iterator[None]:
    """click ends the process with exit code 1 on a broken pipe; what is no OSError it lets through to :func:`main`."""
    try:
        yield
    except BrokenPipeError:
        raise _OutputClosedError from None


class _Commands(click.Group):
    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _noticing_closed_output():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _noticing_closed_output():
            return super().invoke(ctx)

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
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from ..errors import nearest

            ctx.fail(f"no command {args[0]!r}; {nearest(args[0], self.list_commands(ctx))}")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="edgekit-llm", prog_name="edgekit")
def cli() -> None:
    """Put a reasoning model on an edge device: build it, check it, run it.

    \b
    Start here:
      edgekit build smollm2-135m --device jetson      a real 135 M model, small enough to try anywhere
      edgekit run smollm2-135m-jetson-orin-nano       talk to it
      edgekit devices                                 what it can be built for
      edgekit recipes                                 what can be built
    """


def main() -> None:
    """Entry point: run the command line; an :class:`EdgekitError` becomes a message and its own exit code."""
    try:
        _run()
    except (BrokenPipeError, _OutputClosedError):
        _discard_output()
        sys.exit(141)  # as a shell reports a program that SIGPIPE ended
    except OSError as error:
        if error.errno not in _OUTPUT_REFUSED or error.filename is not None:
            raise  # not of the output: a bug
        sys.stderr.write(f"error: cannot write the output: {error.strerror}\n")
        sys.stderr.flush()
        _discard_output()
        sys.exit(DiskFullError.exit_code)


def _run() -> None:
    try:
        cli.main(standalone_mode=False)
    except EdgekitError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if wants_json():
            print_error(EdgekitError(error.format_message()), kind="usage")
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print_error(EdgekitError("interrupted"), kind="interrupted")
        sys.exit(130)


def _discard_output() -> None:
    """What is still buffered has no reader; the interpreter would complain when it flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
