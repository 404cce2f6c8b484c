"""Runs the command line inside the test's process, in the same way as the installed command."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from edgekit.cli import main


@dataclass(frozen=True)
class Outcome:
    """The output and exit code of a command."""

    exit_code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8")

    def json(self) -> Any:
        """Parse stdout, which must be exactly one JSON value."""
        return json.loads(self.stdout)


class Invoke:
    """A function that runs the command line: call it with a command's arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes]) -> None:
        self._monkeypatch, self._capture = monkeypatch, capture

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["edgekit", *map(str, arguments)])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = self._capture.readouterr()
        return Outcome(code, out, err.decode("utf-8"))
