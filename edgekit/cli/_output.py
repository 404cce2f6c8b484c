"""What commands share for talking to a person (text, tables, progress) and to a machine (one JSON object on stdout)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click

from ..errors import EdgekitError
from ._progress import Bars
from ._table import Column, format_table, without_styles, wrap

_PIPED_WIDTH = 120  # of tables into a file or pipe
_ASCII = str.maketrans("█━─", "#=-")

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


def wants_json() -> bool:
    """Whether ``--json`` stands on the command line (asked when parsing itself failed)."""
    return "--json" in sys.argv[1:]


def emit_json(value: Any) -> None:
    """Print the command's result: one object, keys in the order given, floats as they are."""
    click.echo(json.dumps(value, ensure_ascii=False))


def uses_colour(err: bool = False) -> bool:
    """Whether styles reach the reader: on a terminal that knows them, unless ``NO_COLOR`` is set (no-color.org)."""
    return _is_terminal(err) and not os.environ.get("NO_COLOR")


def show(text: str = "", err: bool = False) -> None:
    """Print a text, styled where :func:`uses_colour`, with its lines as they are."""
    _write(text + "\n", err)


def say(text: str, err: bool = False) -> None:
    """Print a text, wrapped between words on a terminal and left whole, for other programs, elsewhere."""
    show("\n".join(wrap(text, terminal_width(err))) if _stream(err).isatty() else text, err)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], err: bool = False) -> None:
    """Print a table as wide as the terminal at most."""
    show(format_table(columns, rows, terminal_width(err)), err)


def print_error(error: EdgekitError, kind: str | None = None) -> None:
    """Print an error: with ``--json`` as ``{"error": {kind, message, hint}}`` on stdout, else on stderr."""
    if wants_json():
        emit_json({"error": {"kind": kind or error.kind, "message": error.message, "hint": error.hint}})
        return
    say(f"{click.style('error', fg='red', bold=True)}: {error.message}", err=True)
    if error.hint:
        say(f"{click.style('hint', fg='cyan', bold=True)}: {error.hint}", err=True)


def terminal_width(err: bool = False) -> int:
    """Characters per line: what ``COLUMNS`` says, else the terminal; 120 into a file or pipe."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(_stream(err).fileno()).columns or _PIPED_WIDTH
    except (OSError, ValueError):  # not a terminal, or not even a file
        return _PIPED_WIDTH


class ProgressReport(Protocol):
    """What long work calls: a phase's name, how much is done and how much there is (any unit)."""

    def __call__(self, phase: str, done: float, total: float) -> None: ...


def ignore_progress(phase: str, done: float, total: float) -> None:
    """A :class:`ProgressReport` that shows nothing."""


@contextmanager
def progress_bars(quiet: bool = False) -> Iterator[ProgressReport]:
    """Progress bars on stderr, one per phase, with elapsed and remaining time; plain lines when not a terminal."""
    if quiet:
        yield ignore_progress
        return
    if not _is_terminal(err=True):
        seen: set[str] = set()

        def line(phase: str, done: float, total: float) -> None:
            if phase not in seen:
                seen.add(phase)
                show(f"{phase} ...", err=True)

        yield line
        return
    bars = Bars(lambda text: _write(text, err=True), lambda: terminal_width(err=True))
    try:
        yield bars.report
    finally:
        bars.close()


def _stream(err: bool) -> Any:
    return sys.stderr if err else sys.stdout


def _is_terminal(err: bool) -> bool:
    """Whether the stream is a terminal that styles and redraws."""
    return bool(_stream(err).isatty()) and os.environ.get("TERM") != "dumb"


def _write(text: str, err: bool) -> None:
    """Write at once, in ASCII's shapes where the locale has no others.

    The styles go unless :func:`uses_colour`; other control sequences are the caller's.
    """
    encoding = _stream(err).encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, errors="backslashreplace").decode(encoding)
    click.echo(text if uses_colour(err) else without_styles(text), err=err, nl=False, color=True)
