"""Tables for the terminal, and lines that keep their style when they are wrapped."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import click

_INDENT, _GAP = " ", "  "
_LONG_WORD = 16  # longer ones, such as URLs, may stand out of their column
_RESET = "\x1b[0m"
_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Shown above; a table of which no column has one has no header.
        right: Its cells end, rather than begin, in line.
        wraps: It is narrowed, its text on several lines, when the table is wider than the terminal.
    """

    heading: str = ""
    right: bool = False
    wraps: bool = False


def format_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> str:
    """Lay out a table.

    Args:
        columns: From left to right.
        rows: A cell per column each; cells may be styled (``click.style``) and hold several lines.
        width: Characters to keep to, as far as the columns that wrap allow.

    Returns:
        Lines without the last line's end.
    """
    widths = _widths(columns, rows, width)
    lines: list[str] = []
    if any(column.heading for column in columns):
        lines += _lines([click.style(column.heading, bold=True) for column in columns], columns, widths)
        lines.append(_INDENT + click.style("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)), dim=True))
    for row in rows:
        lines += _lines(row, columns, widths)
    return "\n".join(lines)


def without_styles(text: str) -> str:
    """The text as a reader sees it."""
    return _STYLE.sub("", text)


def wrap(text: str, width: int) -> list[str]:
    """Break a text at spaces into lines; a style that spans a break ends with the line and begins again on the next.

    Args:
        text: May be styled and hold several lines.
        width: Characters to keep to; longer words stay whole, so that a URL can be copied.
    """
    plain = without_styles(text)
    breaker = textwrap.TextWrapper(
        width, break_long_words=False, break_on_hyphens=False, replace_whitespace=False, expand_tabs=False
    )
    lines = [line for paragraph in plain.split("\n") for line in breaker.wrap(paragraph) or [""]]
    if plain == text:
        return lines
    parts = (part for token in _STYLE.split(text) for part in ([token] if _STYLE.fullmatch(token) else token))
    style = ""  # what is switched on
    styled = []
    for line in lines:
        out = style
        for character in line:
            while (part := next(parts)) != character:  # a style, or a space that went with a break
                if _STYLE.fullmatch(part):
                    style = "" if part == _RESET else style + part
                    out += part
            out += character
        styled.append(out + _RESET if style else out)
    return styled


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """As wide as the cells; where that is too wide, the widest column that wraps gives way first."""
    table = [[column.heading for column in columns], *rows]
    widths = [max(_length(line) for row in table for line in row[i].split("\n")) for i in range(len(columns))]
    least = [
        min(max(_length(word) for row in table for word in [*row[i].split(), ""]), _LONG_WORD)
        for i in range(len(columns))
    ]
    surplus = len(_INDENT) + sum(widths) + len(_GAP) * (len(widths) - 1) - width
    for _ in range(surplus):
        wrapping = [i for i, column in enumerate(columns) if column.wraps and widths[i] > least[i]]
        if not wrapping:
            break
        widths[max(wrapping, key=lambda i: widths[i])] -= 1
    return widths


def _lines(row: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> Iterator[str]:
    cells = [wrap(cell, max(width, 1)) for cell, width in zip(row, widths, strict=True)]
    for parts in zip_longest(*cells, fillvalue=""):
        padded = (
            " " * (width - _length(part)) + part if column.right else part + " " * (width - _length(part))
            for part, column, width in zip(parts, columns, widths, strict=True)
        )
        yield (_INDENT + _GAP.join(padded)).rstrip()


def _length(text: str) -> int:
    return len(without_styles(text))
