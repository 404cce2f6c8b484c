"""How an answer is written: whole characters, thoughts apart from the answer, no control characters."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli._stream import Thoughts, piped_text, print_answer, typed_text
from edgekit.errors import UsageError
from edgekit.runtime.thought import Piece


def test_every_write_is_whole_characters(
    tiny_artifact: Path, scripted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted("Größe 🙂👍🏽 你好, привет")
    writes: list[bytes] = []

    def echo(text: Any, nl: bool = True, err: bool = False, color: bool | None = None) -> None:
        if not err:
            assert not nl
            writes.append(text)

    monkeypatch.setattr("edgekit.cli._stream.click.echo", echo)
    monkeypatch.setattr(sys, "argv", ["edgekit", "run", str(tiny_artifact), "--prompt", "x"])
    from edgekit.cli import main

    main()
    assert len(writes) > 10
    assert "".join(write.decode("utf-8") for write in writes) == "Größe 🙂👍🏽 你好, привет\n"


def test_a_thought_is_dimmed_on_a_terminal_and_control_characters_are_dropped(
    on_terminal: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    on_terminal()

    def show() -> str:
        print_answer([Piece("hm\x1b]0;title\x07", thought=True), Piece("Paris\n\tis\x9b2J it")])
        return capfdbinary.readouterr().out.decode()

    assert show() == "\x1b[2mhm]0;title\x1b[0m\n\nParis\n\tis2J it\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in show()


def test_a_thought_that_never_ends_is_closed(
    on_terminal: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    on_terminal()
    print_answer([Piece("hm", thought=True)])
    assert capfdbinary.readouterr().out == b"\x1b[2mhm\x1b[0m\n"


def test_a_thought_can_be_folded_or_hidden(
    on_terminal: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pieces = [Piece("hm", thought=True), Piece("!", thought=True), Piece("4")]

    def show(thoughts: Thoughts) -> str:
        print_answer(pieces, thoughts)
        return capfdbinary.readouterr().out.decode()

    assert show("fold") == show("hide") == "4\n"
    assert show("show") == "<think>\nhm!\n</think>\n\n4\n"
    on_terminal()
    assert show("hide") == "4\n"
    folded = re.fullmatch(r"\x1b\[2mThinking ...\x1b\[0m\r\x1b\[K\x1b\[2mThought for (.+)\x1b\[0m\n\n4\n", show("fold"))
    assert folded is not None
    assert folded.group(1).endswith("s")
    monkeypatch.setenv("NO_COLOR", "1")
    assert show("fold").startswith("Thinking ... for ")


def test_an_argument_is_utf_8_whatever_the_locale_decoded_it_with(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-8", "latin-1", "ascii"):
        monkeypatch.setattr("os.fsencode", lambda text, e=encoding: text.encode(e, errors="surrogateescape"))
        shown = "你好 🙂 é".encode().decode(encoding, errors="surrogateescape")
        assert typed_text(shown) == "你好 🙂 é"
        with pytest.raises(UsageError, match="the prompt is not UTF-8") as caught:
            typed_text(b"caf\xe9".decode(encoding, errors="surrogateescape"))
        assert "iconv" in caught.value.hint


def test_piped_text_loses_the_mark_that_an_editor_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfhi \xef\xbb\xbf"), encoding="latin-1"))
    assert piped_text() == "hi \ufeff"
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="stdin is closed"):
        piped_text()


@pytest.mark.slow
def test_a_folder_is_found_by_its_bytes_in_a_locale_without_utf_8(tiny_artifact: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_artifact, tmp_path / "größe")
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX"}
    command = [sys.executable, "-m", "edgekit.cli", "run", str(folder), "--max-tokens", "3", "--prompt", "你好"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_a_conversation_is_utf_8_where_python_is_told_otherwise(tiny_artifact: Path, encoding: str) -> None:
    """Python 3.10 to 3.14 follow ``PYTHONIOENCODING`` as they follow a locale, and every machine has it."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [sys.executable, "-m", "edgekit.cli", "run", str(tiny_artifact), "--max-tokens", "3", "--context", "64"]
    typed = "Größe 你好 🙂\n".encode() + b"caf\xe9\n/exit\n"
    done = subprocess.run(command, input=typed, capture_output=True, env=environment, check=False)
    shown = done.stderr.decode(encoding, errors="replace")
    assert done.returncode == 0
    assert "Traceback" not in shown
    assert shown.count("generated tokens") == 1
    assert "the prompt is not UTF-8" in shown
    done.stdout.decode("utf-8")
    ids = [
        json.loads(subprocess.run([*command, "--prompt", "你好", "--json"], capture_output=True, env=e).stdout)
        for e in (environment, os.environ)
    ]
    assert ids[0]["prompt_tokens"] == ids[1]["prompt_tokens"]
