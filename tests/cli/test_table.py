"""Tables: alignment, wrapping, styles that do not count as width."""

from __future__ import annotations

import click
import pytest

from edgekit.cli._table import Column, format_table, without_styles, wrap

COLUMNS = (Column("name"), Column("size", right=True), Column("what", wraps=True))
ROWS = (("a", "12 MB", "one two three four"), ("longer", "1 B", "five"))


def test_columns_are_aligned_under_their_headings() -> None:
    assert without_styles(format_table(COLUMNS, ROWS, 80)).splitlines() == [
        " name     size  what",
        " ─────────────────────────────────",
        " a       12 MB  one two three four",
        " longer    1 B  five",
    ]


def test_a_column_that_wraps_gives_way_to_the_width() -> None:
    assert without_styles(format_table(COLUMNS, ROWS, 26)).splitlines() == [
        " name     size  what",
        " ─────────────────────────",
        " a       12 MB  one two",
        "                three four",
        " longer    1 B  five",
    ]


def test_the_widest_column_gives_way_first() -> None:
    columns = (Column(wraps=True), Column(wraps=True))
    text = format_table(columns, [("aa bb cc", "dd ee ff gg hh ii")], 21)
    assert text.splitlines() == [" aa bb cc  dd ee ff", "           gg hh ii"]


def test_without_headings_there_is_no_header() -> None:
    assert format_table((Column(), Column(right=True)), [("a", "1"), ("b", "22")], 80) == " a   1\n b  22"


def test_styles_take_no_room() -> None:
    styled = [(click.style(a, bold=True), click.style(b, fg="red"), click.style(c, dim=True)) for a, b, c in ROWS]
    for width in (80, 26, 10):
        text = format_table(COLUMNS, styled, width)
        assert "\x1b[31m12 MB\x1b[0m" in text
        assert without_styles(text) == without_styles(format_table(COLUMNS, ROWS, width))


def test_nothing_is_ever_cut() -> None:
    url = "https://example.com/" + "x" * 60
    for width in (1, 20, 60):
        text = format_table(COLUMNS, [*ROWS, ("b", "3 B", f"see {url} and more")], width)
        assert url in text
        assert "".join(text.split()).endswith(f"see{url}andmore")


def test_lines_of_a_cell_stay_lines() -> None:
    text = format_table((Column(), Column(wraps=True)), [("key", "value\n" + click.style("its source", dim=True))], 80)
    assert without_styles(text) == " key  value\n      its source"


def test_every_line_of_a_wrapped_style_stands_by_itself() -> None:
    text = "plain " + click.style("bold red words", fg="red", bold=True) + " plain again"
    lines = wrap(text, 14)
    assert [without_styles(line) for line in lines] == ["plain bold red", "words plain", "again"]
    assert lines[0] == "plain \x1b[31m\x1b[1mbold red\x1b[0m"
    assert lines[1] == "\x1b[31m\x1b[1mwords\x1b[0m plain"
    assert "\x1b" not in lines[2]


@pytest.mark.parametrize("text", ["", "\n", " a", "a\n\n  b", "a  b", "tab\there"])
def test_a_text_that_fits_is_left_as_it_is(text: str) -> None:
    assert "\n".join(wrap(text, 80)) == text
    assert without_styles("\n".join(wrap(click.style(text, dim=True), 80))) == text
