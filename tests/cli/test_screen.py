"""Sentences and tables on terminals of several widths, with and without colour."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from rich.text import Text

from edgekit.cli._output import Column
from edgekit.cli._screen import PIPED_WIDTH, Screen

COLUMNS = (Column("name"), Column("size", right=True), Column("what", wraps=True))
ROWS = (("a", "12 MB", "one two three four"), ("longer", "1 B", "five"))


def without_styles(text: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in without_styles(capsys.readouterr().out).splitlines()]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "26")


def test_columns_are_aligned_under_their_headings(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table(COLUMNS, ROWS)
    assert shown(capsys) == [
        "name     size  what",
        "─────────────────────────────────",
        "a       12 MB  one two three four",
        "longer    1 B  five",
    ]


@pytest.mark.usefixtures("narrow")
def test_a_wrapping_column_is_narrowed_to_the_width(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table(COLUMNS, ROWS)
    assert shown(capsys) == [
        "name     size  what",
        "──────────────────────────",
        "a       12 MB  one two",
        "               three four",
        "longer    1 B  five",
    ]


@pytest.mark.usefixtures("narrow")
def test_optional_columns_are_dropped_from_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("name"), Column("size", right=True), Column("b", optional=True), Column("c", optional=True))
    rows = [("longer", "12 MB", "five", "six"), ("a", "1 B", "seven", "eight, nine")]
    Screen().table(columns, rows)
    assert shown(capsys)[2:] == ["longer  12 MB  five", "a         1 B  seven"]


@pytest.mark.parametrize(("width", "shown"), [(16, ["name", "last", "free"]), (11, ["name", "last"]), (9, ["name"])])
def test_a_last_resort_is_dropped_after_the_optional_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, shown: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    Screen().table((Column("name"), Column("last", last_resort=True), Column("free", optional=True)), [("a", "b", "c")])
    assert capsys.readouterr().out.split("\n")[0].split() == shown


@pytest.mark.usefixtures("narrow")
def test_a_cell_that_does_not_fit_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    name = "deepseek-r1-distill-llama-70b"
    Screen().table((Column("name"), Column("size")), [(name, "41.8 GB")])
    assert f"{name}  41.8 GB" in shown(capsys)


@pytest.mark.usefixtures("narrow")
def test_a_url_is_broken_rather_than_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    url = "https://example.com/" + "x" * 30
    Screen().table((Column("name"), Column("source", wraps=True)), [("a", f"see {url}")])
    lines = shown(capsys)
    assert max(map(len, lines)) <= 26
    assert "".join("".join(line.split()) for line in lines[2:]) == f"asee{url}"


def test_a_table_without_headings_has_no_header(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table((Column(), Column(right=True)), [("a", "1"), ("b", "22")])
    assert [line.split() for line in shown(capsys)] == [["a", "1"], ["b", "22"]]


@pytest.mark.parametrize("text", ["[bold]not markup[/bold]", "weights[0]", "[/]", ":smile:"])
def test_brackets_are_not_markup(capsys: pytest.CaptureFixture[str], text: str) -> None:
    screen = Screen()
    screen.say(text)
    screen.table((Column("[heading]"),), [(text,)])
    lines = shown(capsys)
    assert (lines[0], lines[1], lines[3]) == (text, "[heading]", text)


def test_a_file_has_a_fixed_width_and_whole_sentences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    screen = Screen()
    sentence = "word " * 40 + "end"
    screen.say(sentence)
    screen.table((Column("text", wraps=True),), [(sentence,)])
    first, *table = capsys.readouterr().out.splitlines()
    assert first == sentence
    assert max(map(len, table)) <= PIPED_WIDTH
    assert not any(line.endswith(" ") for line in table)


def test_a_terminal_wraps_sentences_and_leaves_urls_whole(
    capsys: pytest.CaptureFixture[str], on_terminal: Callable[..., None]
) -> None:
    on_terminal()
    Screen().say(("styled words", "red"), " and many more words that do not fit in sixty columns of a terminal")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("\x1b[31mstyled words\x1b[0m and many")
    assert without_styles(first).rstrip() == "styled words and many more words that do not fit in sixty"
    assert second == "columns of a terminal"
    url = "https://example.com/" + "x" * 60
    Screen().say("see ", url)
    assert capsys.readouterr().out == f"see {url}\n"


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_styles_can_be_declined(
    capsys: pytest.CaptureFixture[str], on_terminal: Callable[..., None], variable: str, value: str
) -> None:
    on_terminal(**{variable: value})
    Screen().say(("words", "bold red"))
    assert capsys.readouterr().out == "words\n"


def test_an_empty_no_color_declines_nothing(
    capsys: pytest.CaptureFixture[str], on_terminal: Callable[..., None]
) -> None:
    on_terminal(NO_COLOR="")
    Screen().table((Column(),), [(Text("words", style="red"),)])
    assert "\x1b[31mwords" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["²", "9" * 5000, "x", "-5", "0", "٣"])
def test_columns_that_are_no_number_are_ignored(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    screen = Screen()
    assert screen.width == PIPED_WIDTH
    assert screen.height > 0


def test_names_do_not_control_the_terminal(
    capsys: pytest.CaptureFixture[str], on_terminal: Callable[..., None]
) -> None:
    on_terminal(NO_COLOR="1")
    title = "a\x1b]0;title\x07b\x9b2J"
    Screen().say(title, (title, "bold"))
    Screen().table((Column("name"), Column(), Column()), [(title, (title, "dim"), [title, (title, "red")])])
    printed = capsys.readouterr().out
    assert printed.count(r"a\x1b]0;title\x07b\x9b2J") == 6
    assert not {"\x1b", "\x07", "\x9b"} & set(printed)
