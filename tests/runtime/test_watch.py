"""The watch through ctypes; tests/native/watch_test.cpp and loop_detector_test.cpp test the rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import tokenizer as tiny_tokenizer

from edgekit.runtime.watch import Watch, closing

ROOT = Path(__file__).parents[2]


def actions(watch: Watch, tokens: list[int], *, in_thought: bool) -> list[str]:
    found = [watch.push(token, in_thought=in_thought) for token in tokens]
    return [action for i, action in enumerate(found) if i == 0 or found[i - 1] != action]


def test_a_budget_is_spent() -> None:
    watch = Watch(3, "off", inside=True)
    assert [watch.push(i, in_thought=True) for i in range(4)] == ["go on", "go on", "close spent", "close spent"]
    assert watch.push(5, in_thought=False) == "go on"


def test_a_loop_is_penalized_and_then_closed() -> None:
    watch = Watch(inside=True)
    logits = np.full(30, 6, np.float32)
    watch.adjust(logits)
    assert logits.tolist() == [6] * 30
    assert actions(watch, [i % 20 for i in range(340)], in_thought=True) == ["go on"]
    watch.adjust(logits)
    assert (logits[:20] < 6).all()
    assert (logits[20:] == 6).all()
    assert watch.loops == 1
    assert actions(watch, [i % 20 for i in range(300)], in_thought=True) == ["go on", "close loop"]
    assert watch.loops == 2


def test_answers_are_watched_on_request() -> None:
    tokens = [i % 20 for i in range(3000)]
    assert actions(Watch(), tokens, in_thought=False) == ["go on"]
    assert actions(Watch(loop_guard="off", inside=True), tokens, in_thought=True) == ["go on"]
    assert actions(Watch(loop_guard="all"), tokens, in_thought=False) == ["go on", "end"]


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="think_tokens is 0; it must be a whole number of at least 1"):
        Watch(0)
    with pytest.raises(ValueError, match="loop_guard is 'some'; allowed: thought, off, all"):
        Watch(loop_guard="some")


def test_the_closing_begins_on_its_own_line() -> None:
    text = closing("close spent", "")
    assert text.endswith(".\n</think>\n\n")
    assert closing("close spent", "so 4") == "\n\n" + text
    assert closing("close spent", "4.\n") == "\n" + text
    assert closing("close loop", "4.\n\n") != text


def test_code_and_documentation_do_not_loop() -> None:
    tokenizer = tiny_tokenizer()
    files = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "edgekit" / "runtime").glob("*.py"))]
    for file in files:
        watch = Watch(loop_guard="all", inside=True)
        for token in tokenizer.encode(file.read_text(encoding="utf-8")[:20000]).ids:
            watch.push(token, in_thought=True)
        assert watch.loops == 0, file
