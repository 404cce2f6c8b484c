"""Prints sentences and tables with rich. Import this module where something is printed: rich takes 40 ms to import."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 120  # of a table in a file or pipe
_GAP = 2  # between columns
_LONG_WORD = 16  # longer ones, such as URLs, may be broken to fit a column

Cell = str | Text


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Shown above the column. A table without headings has no header row.
        right: Aligns the cells to the right.
        wraps: Narrows the column and wraps its text when the table is wider than the screen.
        optional: Drops the column when the table is still too wide; the rightmost optional column goes first.
        min_width: Characters that a wrapping column keeps at least.
    """

    heading: str = ""
    right: bool = False
    wraps: bool = False
    optional: bool = False
    min_width: int | None = None


class Screen(Console):
    """Standard output or standard error.

    Text is printed as it is: square brackets are not markup, and nothing is highlighted. Styles reach only a terminal
    that supports them, and none when ``NO_COLOR`` is set (https://no-color.org).

    Args:
        err: Writes to standard error.
    """

    def __init__(self, *, err: bool = False) -> None:
        stream = sys.stderr if err else sys.stdout
        columns = os.environ.get("COLUMNS", "")
        told = int(columns) if columns.isdecimal() and int(columns) > 0 else None
        super().__init__(
            stderr=err,
            markup=False,
            emoji=False,
            highlight=False,
            color_system=None if os.environ.get("NO_COLOR") else "auto",
            width=told if told or stream.isatty() else PIPED_WIDTH,
        )

    def on_broken_pipe(self) -> None:
        """Leave a broken pipe to ``main``; rich would end the process with exit code 1."""
        raise

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print a sentence: wrapped between words on a terminal, on one line elsewhere so that ``grep`` finds it.

        A sentence with a word that is too long for the screen, such as a URL, is left to the terminal to wrap, so that
        the word can be copied.

        Args:
            parts: Strings, or pairs of a string and its rich style.
        """
        text = Text.assemble(*parts)
        too_long = any(cell_len(word) > self.width for word in text.plain.split())
        self.print(text, soft_wrap=too_long or not self.is_terminal)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[RenderableType]]) -> None:
        """Print a table that is as narrow as the screen where its columns allow it.

        Args:
            columns: From left to right.
            rows: One cell per column each; a column that does not wrap has one-line texts.
        """
        least = [_least_width(column, [row[i] for row in rows]) for i, column in enumerate(columns)]
        shown = list(range(len(columns)))

        def width() -> int:
            return sum(least[i] + _GAP for i in shown) - _GAP

        while width() > self.width and (optional := [i for i in shown if columns[i].optional]):
            shown.remove(optional[-1])
        table = _layout(
            [columns[i] for i in shown], [[row[i] for i in shown] for row in rows], [least[i] for i in shown]
        )
        if width() > self.width:
            table.width = width()  # the terminal wraps the lines; rich would cut the cells
        if self.is_terminal:
            self.print(table, crop=False)
            return
        with self.capture() as drawn:
            self.print(table, crop=False)
        for line in drawn.get().splitlines():
            self.out(line.rstrip(), highlight=False)


def _least_width(column: Column, cells: Sequence[RenderableType]) -> int:
    """The characters a column needs: all of them where it does not wrap, else its longest word up to a limit."""
    if column.min_width is not None:
        return column.min_width
    texts = [column.heading, *map(str, cells)]
    if not column.wraps:
        return max(map(cell_len, texts))
    return min(max((cell_len(word) for text in texts for word in text.split()), default=1), _LONG_WORD)


def _layout(columns: Sequence[Column], rows: Sequence[Sequence[RenderableType]], least: Sequence[int]) -> Table:
    """A table whose columns have at least the given widths."""
    headed = any(column.heading for column in columns)
    table = Table(
        box=box.SIMPLE_HEAD if headed else None,
        show_header=headed,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - headed, 0, 0),  # a box adds a space of its own
    )
    for column, width in zip(columns, least, strict=True):
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            no_wrap=not column.wraps,
            overflow="fold",
            min_width=width,
        )
    for row in rows:
        table.add_row(*row)
    return table
