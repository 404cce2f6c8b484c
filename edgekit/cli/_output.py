"""Output of the commands: text for people, drawn by rich, and one JSON object for programs.

rich is imported when something is printed, so that a command which prints JSON never loads it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from ..errors import EdgekitError
from ..json_text import finite_json, json_text
from ..progress import Progress, no_progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ._screen import Screen

Part = str | tuple[str, str]  # of a text: a string, or a string and its rich style
Cell: TypeAlias = "Part | list[Part] | RenderableType"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Shown above the column. A table without headings has no header row.
        right: Aligns the cells to the right.
        wraps: Narrows the column and wraps its text when the table is wider than the screen.
        optional: Drops the column when the table is still too wide; the rightmost optional column goes first.
        last_resort: Drops the column when the table is too wide even without the optional ones.
        min_width: Characters that a wrapping column keeps at least.
    """

    heading: str = ""
    right: bool = False
    wraps: bool = False
    optional: bool = False
    last_resort: bool = False
    min_width: int | None = None


def wants_json() -> bool:
    """Whether the command line contains ``--json``; for errors that arise before it is parsed."""
    return "--json" in sys.argv[1:]


def emit_json(value: Any) -> None:
    """Print the command's result: one object in UTF-8, keys in the order given. NaN and infinity become null."""
    click.echo(json_text(finite_json(value)).encode())


def open_screen(*, err: bool = False) -> Screen:
    """A screen on stdout, or on stderr."""
    from ._screen import Screen

    return Screen(err=err)


def error_json(error: EdgekitError, kind: str | None = None) -> dict[str, Any]:
    """The object that describes an error; its kind is by default that of its class."""
    return {"error": {"kind": kind or error.kind, "message": error.message, "hint": error.hint}}


def print_planned_cache(plan: Mapping[str, Any], kv_type: str | None, asked: str | None = None) -> None:
    """Print a note if the KV cache is smaller than the engine's default because the build planned it so.

    Args:
        plan: The plan of an artifact's manifest.
        kv_type: The type that is used; None if the engine did not open.
        asked: The type that the user requested, if any.
    """
    if asked is None and kv_type == "int8" and plan.get("kv_type") == kv_type:
        because = f": {plan['kv_because']}" if plan.get("kv_because") else ""
        print_notes([f"the KV cache is {kv_type}, as planned{because}"])


def print_error(error: EdgekitError, kind: str | None = None) -> None:
    """Print an error on stderr; with ``--json`` print ``{"error": {kind, message, hint}}`` on stdout.

    Args:
        error: What went wrong.
        kind: The error's kind in JSON, by default that of its class.
    """
    if wants_json():
        emit_json(error_json(error, kind))
        return
    screen = open_screen(err=True)
    screen.say(("error", "bold red"), f": {error.message}")
    if error.hint:
        screen.say(("hint", "bold cyan"), f": {error.hint}")


def print_notes(notes: Sequence[str], screen: Screen | None = None) -> None:
    """Print the notes of a plan or a build on stderr, also with ``--json``.

    Args:
        notes: One sentence each.
        screen: The screen on stderr, where progress is shown on it; by default a new one.
    """
    if not notes:
        return
    screen = screen or open_screen(err=True)
    for note in notes:
        screen.say(("note", "bold yellow"), f": {note}")


@contextmanager
def progress_bars(screen: Screen | None = None, *, quiet: bool = False) -> Iterator[Progress]:
    """Show the progress of long work on stderr until the block ends. Work that reports nothing imports no rich.

    Args:
        screen: The screen on stderr, where the caller prints on it during the work; by default a new one.
        quiet: Shows nothing.

    Yields:
        A function to call with the phase's name, the amount done and the total, in any unit.
    """
    if quiet:
        yield no_progress
        return
    shown: Progress | None = None
    with ExitStack() as stack:

        def progress(name: str, done: float, total: float) -> None:
            nonlocal shown
            if shown is None:
                from ._progress import progress_on

                shown = stack.enter_context(progress_on(screen or open_screen(err=True)))
            shown(name, done, total)

        yield progress
