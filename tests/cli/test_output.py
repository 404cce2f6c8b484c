"""Output that all commands share: errors for people and programs, JSON, and progress that can be turned off."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import click
import pytest

from edgekit.cli._output import emit_json, print_error, print_notes, print_planned_cache, progress_bars
from edgekit.errors import BudgetError, EdgekitError


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the command line."""
    return lambda *words: monkeypatch.setattr(sys, "argv", ["edgekit", *words])


def test_an_error_is_coloured_and_wrapped_on_a_terminal(
    capfd: pytest.CaptureFixture[str], on_terminal: Callable[..., None], arguments: Callable[..., None]
) -> None:
    arguments()
    on_terminal(COLUMNS="30")
    print_error(EdgekitError("a message of more than thirty characters", hint="the next step"))
    assert [line.rstrip() for line in capfd.readouterr().err.split("\n")] == [
        "\x1b[1;31merror\x1b[0m: a message of more than",
        "thirty characters",
        "\x1b[1;36mhint\x1b[0m: the next step",
        "",
    ]


def test_a_pipe_gets_neither_colours_nor_broken_lines(
    capfd: pytest.CaptureFixture[str], arguments: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments()
    monkeypatch.setenv("COLUMNS", "30")
    print_error(EdgekitError("word " * 40 + "end", hint="the next step"))
    assert capfd.readouterr().err == "error: " + "word " * 40 + "end\nhint: the next step\n"


@pytest.mark.parametrize("text", ["recipe[1].toml: [config] lacks x", "[red]", "[/nothing]"])
def test_brackets_in_an_error_are_not_markup(
    capfd: pytest.CaptureFixture[str], arguments: Callable[..., None], text: str
) -> None:
    arguments()
    print_error(EdgekitError(text, hint=text))
    assert capfd.readouterr().err == f"error: {text}\nhint: {text}\n"


def test_an_error_is_an_object_with_json(capfd: pytest.CaptureFixture[str], arguments: Callable[..., None]) -> None:
    arguments("plan", "--json")
    print_error(BudgetError("too large", hint="a smaller one"))
    out, err = capfd.readouterr()
    assert json.loads(out) == {"error": {"kind": "budget", "message": "too large", "hint": "a smaller one"}}
    assert err == ""


def test_json_is_utf8_in_any_locale(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    emit_json({"path": "Größe/\udcff"})
    out, _ = capfdbinary.readouterr()
    assert out == '{"path": "Größe/\\udcff"}\n'.encode()
    assert json.loads(out) == {"path": "Größe/\udcff"}


def test_quiet_progress_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bars(quiet=True) as progress:
        progress("phase", 1, 2)
    assert capfd.readouterr() == ("", "")


def test_text_for_people_does_not_go_through_click_styles() -> None:
    """Styles of click are escape sequences, which rich would print unchanged."""
    from pathlib import Path

    import edgekit.cli

    for path in Path(edgekit.cli.__file__).parent.glob("*.py"):
        assert f"{click.__name__}.style" not in path.read_text(encoding="utf-8"), path


def test_notes_are_printed_on_stderr_one_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    print_notes(())
    print_notes(("the token [PAD] is left out", "the head is tied"))
    assert capfd.readouterr() == ("", "note: the token [PAD] is left out\nnote: the head is tied\n")


def test_a_smaller_cache_is_noted_where_the_plan_chose_it(capfd: pytest.CaptureFixture[str]) -> None:
    planned = {"kv_type": "int8", "kv_because": "float16 would need more"}
    print_planned_cache(planned, "float16")
    print_planned_cache(planned, "int8", asked="int8")
    print_planned_cache({"kv_type": "float16"}, "int8")
    print_planned_cache(planned, None)
    assert capfd.readouterr() == ("", "")
    print_planned_cache(planned, "int8")
    print_planned_cache({"kv_type": "int8"}, "int8")
    noted = "note: the KV cache is int8, as planned"
    assert capfd.readouterr() == ("", f"{noted}: float16 would need more\n{noted}\n")
