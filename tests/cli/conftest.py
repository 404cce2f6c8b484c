"""Fixtures shared by the tests of the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from invoke import Invoke
from numpy.typing import NDArray
from tiny_artifact import write_tiny_artifact

from edgekit.runtime.loading import load
from edgekit.runtime.ort_engine import OrtEngine

Script = Callable[[str], None]


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float artifact that chats. Tests must not change it."""
    return write_tiny_artifact(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Invoke:
    return Invoke(monkeypatch, capfdbinary)


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it to make stdout and stderr look like a terminal that supports colours, 60 columns wide.

    It must be called in the test: pytest replaces the streams after the fixtures are set up.
    """

    def begin(**environment: str) -> None:
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in ({"TERM": "xterm", "COLUMNS": "60"} | environment).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    return begin


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tiny_artifact: Path) -> Script:
    """Makes every engine generate one text and the stop token, repeatedly."""

    def script(text: str) -> None:
        with load(tiny_artifact) as session:
            ids = [*session.tokenizer.encode(text, add_bos=False), *session.manifest.tokens["eos"]]
        state = {"next": 0}

        def evaluate(self: OrtEngine, prompt: Sequence[int]) -> NDArray[np.float32]:
            self.position += len(prompt)
            logits = np.zeros((1, self.vocab_size), np.float32)
            logits[0, ids[state["next"] % len(ids)]] = 1
            state["next"] += 1
            return logits

        monkeypatch.setattr(OrtEngine, "evaluate", evaluate)

    return script
