"""What commands share for talking to a person (stderr, progress) and to a machine (one JSON object on stdout)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import EdgekitError

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


def stderr_console() -> Console:
    """A console on stderr: colour only on a terminal, and no wrapping at 80 columns when it is a file."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def stdout_console() -> Console:
    """A console on stdout for tables a person reads."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def wants_json() -> bool:
    """Whether ``--json`` stands on the command line (asked when parsing itself failed)."""
    return "--json" in sys.argv[1:]


def emit_json(value: Any) -> None:
    """Print the command's result: one object, keys in the order given, floats as they are."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_error(error: EdgekitError, kind: str | None = None) -> None:
    """Print an error: with ``--json`` as ``{"error": {kind, message, hint}}`` on stdout, else on stderr."""
    if wants_json():
        emit_json({"error": {"kind": kind or error.kind, "message": error.message, "hint": error.hint}})
        return
    console = stderr_console()
    console.print("[bold red]error[/]: ", end="")
    console.print(error.message, markup=False)
    if error.hint:
        console.print("[bold cyan]hint[/]: ", end="")
        console.print(error.hint, markup=False)


class ProgressReport(Protocol):
    """What long work calls: a phase's name, how much is done and how much there is (any unit)."""

    def __call__(self, phase: str, done: float, total: float) -> None: ...


def ignore_progress(phase: str, done: float, total: float) -> None:
    """A :class:`ProgressReport` that shows nothing."""


@contextmanager
def progress_bars(quiet: bool = False) -> Iterator[ProgressReport]:
    """Progress bars on stderr, one per phase, with elapsed and remaining time; plain lines when not a terminal."""
    console = stderr_console()
    if quiet:
        yield ignore_progress
        return
    if not console.is_terminal:
        seen: set[str] = set()

        def line(phase: str, done: float, total: float) -> None:
            if phase not in seen:
                seen.add(phase)
                console.print(f"{phase} ...", markup=False)

        yield line
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}

        def bar(phase: str, done: float, total: float) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=total)
            progress.update(tasks[phase], completed=done, total=total)

        yield bar
