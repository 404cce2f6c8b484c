"""Output of the commands: text for people, drawn by rich, and one JSON object for programs.

rich is imported when something is printed, so that a command which prints JSON never loads it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..errors import EdgekitError
from ..progress import Progress, no_progress

if TYPE_CHECKING:
    from rich.text import Text

    from ._screen import Screen


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object on stdout.")


def wants_json() -> bool:
    """Whether the command line contains ``--json``; for errors that arise before it is parsed."""
    return "--json" in sys.argv[1:]


def emit_json(value: Any) -> None:
    """Print the command's result: one object in UTF-8, keys in the order given."""
    text = json.dumps(value, ensure_ascii=False)
    click.echo(text.encode("utf-8", errors="backslashreplace"))  # a lone surrogate becomes its JSON escape


def open_screen(*, err: bool = False) -> Screen:
    """A screen on stdout, or on stderr."""
    from ._screen import Screen

    return Screen(err=err)


def styled(*parts: str | tuple[str, str]) -> Text:
    """A text from strings, and pairs of a string and its rich style."""
    from rich.text import Text

    return Text.assemble(*parts)


def print_error(error: EdgekitError, kind: str | None = None) -> None:
    """Print an error on stderr; with ``--json`` print ``{"error": {kind, message, hint}}`` on stdout.

    Args:
        error: What went wrong.
        kind: The error's kind in JSON, by default that of its class.
    """
    if wants_json():
        emit_json({"error": {"kind": kind or error.kind, "message": error.message, "hint": error.hint}})
        return
    screen = open_screen(err=True)
    screen.say(("error", "bold red"), f": {error.message}")
    if error.hint:
        screen.say(("hint", "bold cyan"), f": {error.hint}")


@contextmanager
def progress_bars(screen: Screen | None = None, *, quiet: bool = False) -> Iterator[Progress]:
    """Show the progress of long work on stderr until the block ends.

    Args:
        screen: The screen on stderr, where the caller prints on it during the work; by default a new one.
        quiet: Shows nothing.

    Yields:
        A function to call with the phase's name, the amount done and the total, in any unit.
    """
    if quiet:
        yield no_progress
        return
    from ._progress import progress_on

    with progress_on(screen or open_screen(err=True)) as report:
        yield report
