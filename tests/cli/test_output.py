"""What every command shares: colours, widths, encodings, errors, and a reader that leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.cli import _output
from edgekit.errors import EdgekitError

ROOT = Path(__file__).parents[2]


def _edgekit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "edgekit.cli", *arguments],
        cwd=ROOT, capture_output=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def print_error(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[EdgekitError], str]:
    """Prints an error on a terminal 30 characters wide; gives what the terminal got."""
    monkeypatch.setattr(sys, "argv", ["edgekit"])
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def print_it(error: EdgekitError) -> str:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        _output.print_error(error)
        return capfd.readouterr().err

    return print_it


def test_an_error_is_coloured_and_wrapped_on_a_terminal(print_error: Callable[[EdgekitError], str]) -> None:
    assert print_error(EdgekitError("a message of more than thirty characters", hint="the next step")).split("\n") == [
        "\x1b[31m\x1b[1merror\x1b[0m: a message of more than",
        "thirty characters",
        "\x1b[36m\x1b[1mhint\x1b[0m: the next step",
        "",
    ]


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_declined(
    print_error: Callable[[EdgekitError], str], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert print_error(EdgekitError("a message")) == "error: a message\n"


def test_an_empty_no_color_declines_nothing(
    print_error: Callable[[EdgekitError], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b[31m" in print_error(EdgekitError("a message"))


def test_a_pipe_gets_neither_colours_nor_broken_lines(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edgekit"])
    monkeypatch.setenv("COLUMNS", "30")
    _output.print_error(EdgekitError("word " * 40 + "end", hint="the next step"))
    assert capfd.readouterr().err == "error: " + "word " * 40 + "end\nhint: the next step\n"


def test_a_locale_without_lines_and_blocks_gets_others() -> None:
    done = _edgekit("plan", "smollm2-135m", "--device", "jetson", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"###" in done.stdout
    assert done.stdout.isascii()


def test_tables_keep_to_the_columns_told() -> None:
    lines = _edgekit("devices", COLUMNS="100").stdout.decode().splitlines()
    assert max(map(len, lines[:-1])) == 100  # the last is a sentence, which a pipe gets whole


@pytest.mark.parametrize(
    "arguments",
    [
        ["recipes"],
        ["recipes", "--json"],
        ["--help"],
        ["plan", "--help"],
        ["plan", "nothing", "--device", "pi", "--json"],
    ],
)
def test_a_reader_that_left_is_no_failure_to_report(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "edgekit.cli", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=60, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [["--help"], ["recipes"], ["devices", "--json"]])
def test_an_output_that_takes_nothing_is_an_error_and_no_traceback(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgekit.cli", *arguments], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 52
    assert done.stderr == b"error: cannot write the output: No space left on device\n"
