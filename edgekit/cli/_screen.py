"""Prints sentences and tables with rich. Import this module where something is printed: rich takes 40 ms to import."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.measure import measure_renderables
from rich.table import Table
from rich.text import Text

from ._output import Cell, Column, Part
from ._stream import visible

PIPED_WIDTH = 120  # of a table in a file or pipe
_UNLIMITED = 100_000  # characters: wider than any cell
_GAP = 2  # between columns
_SIZE = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)  # of a screen, in an environment variable
_LONG_WORD = 16  # longer ones, such as URLs, may be broken to fit a column


class Screen(Console):
    """Standard output or standard error.

    Text is printed as it is: square brackets are not markup, and nothing is highlighted. Styles reach only a terminal
    that supports them, and none when ``NO_COLOR`` is set (https://no-color.org). Control characters, which a name in an
    artifact or of a file may have, are shown as escapes.

    Args:
        err: Writes to standard error.
    """

    def __init__(self, *, err: bool = False) -> None:
        stream = sys.stderr if err else sys.stdout
        columns = os.environ.get("COLUMNS", "")
        told = int(columns) if _SIZE.fullmatch(columns) else None
        # rich reads them as well, and fails on digits that int() does not take.
        sizes = {name for name in ("COLUMNS", "LINES") if not _SIZE.fullmatch(os.environ.get(name, ""))}
        super().__init__(
            stderr=err,
            markup=False,
            emoji=False,
            highlight=False,
            color_system=None if os.environ.get("NO_COLOR") else "auto",
            width=told if told or stream.isatty() else PIPED_WIDTH,
            _environ={name: value for name, value in os.environ.items() if name not in sizes},
        )

    def on_broken_pipe(self) -> None:
        """Leave a broken pipe to ``main``; rich would end the process with exit code 1."""
        raise

    def say(self, *parts: Part, wrap: bool = True) -> None:
        """Print a sentence: wrapped between words on a terminal, on one line elsewhere so that ``grep`` finds it.

        A sentence with a word that is too long for the screen, such as a URL, is left to the terminal to wrap, so that
        the word can be copied.

        Args:
            parts: Strings, or pairs of a string and its rich style.
            wrap: False leaves all of it to the terminal, for a command that is copied.
        """
        text = Text.assemble(*map(_visible, parts))
        too_long = any(cell_len(word) > self.width for word in text.plain.split())
        self.print(text, soft_wrap=too_long or not wrap or not self.is_terminal)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        """Print a table that is as narrow as the screen where its columns allow it.

        Args:
            columns: From left to right.
            rows: One cell per column each; a column that does not wrap has one-line texts.
        """
        drawn = [[_renderable(cell) for cell in row] for row in rows]
        least = [self._least_width(column, [row[i] for row in drawn]) for i, column in enumerate(columns)]
        shown = list(range(len(columns)))
        while (width := sum(least[i] + _GAP for i in shown) - _GAP) > self.width:
            dropped = [i for i in shown if columns[i].optional] or [i for i in shown if columns[i].last_resort]
            if not dropped:
                break
            shown.remove(dropped[-1])
        headed = any(column.heading for column in columns)
        table = Table(
            box=box.SIMPLE_HEAD if headed else None,
            show_header=headed,
            show_edge=False,
            pad_edge=False,
            padding=(0, _GAP - headed, 0, 0),  # a box adds a space of its own
            width=width if width > self.width else None,  # the terminal wraps the lines; rich would cut the cells
        )
        for i in shown:
            table.add_column(
                columns[i].heading,
                justify="right" if columns[i].right else "left",
                no_wrap=not columns[i].wraps,
                overflow="fold",
                min_width=least[i],
            )
        for row in drawn:
            table.add_row(*(row[i] for i in shown))
        if self.is_terminal:
            self.print(table, crop=False)
            return
        with self.capture() as lines:
            self.print(table, crop=False)
        for line in lines.get().splitlines():
            self.out(line.rstrip(), highlight=False)

    def _least_width(self, column: Column, cells: Sequence[RenderableType]) -> int:
        """The characters a column needs: all of them where it does not wrap, else its longest word up to a limit."""
        wide = self.options.update(max_width=_UNLIMITED)
        longest_word, whole = measure_renderables(self, wide, [column.heading, *cells])
        if not column.wraps:
            return whole
        return min(longest_word, _LONG_WORD) if column.min_width is None else column.min_width


def _renderable(cell: Cell) -> RenderableType:
    if isinstance(cell, list):
        return Text.assemble(*map(_visible, cell))
    if isinstance(cell, tuple):
        return Text(visible(cell[0]), cell[1])
    return visible(cell) if isinstance(cell, str) else cell


def _visible(part: Part) -> Part:
    return visible(part) if isinstance(part, str) else (visible(part[0]), part[1])
