"""Detecting loops and unfinished thoughts, and artifacts that cannot be asked."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgekit.artifact.manifest import RuntimeFacts
from edgekit.quality import answers
from edgekit.quality.answers import (
    MAX_PERIOD,
    MIN_LOOP_TOKENS,
    MIN_REPEATS,
    Answer,
    ask,
    ended_in_time,
    loop_period,
    thought_closed,
)

FACTS = RuntimeFacts(
    name="tiny", model={"vocab_size": 9, "context_length": 64}, plan={"context": 64}, quantization={},
    activation_type="float32", reasoning=False, sampling={}, tokens={"eos": [0]},
)  # fmt: skip
SPEECH = random.Random(1).choices(range(1000), k=300)  # noqa: S311


@pytest.mark.parametrize("period", [1, 2, 7, 16, MAX_PERIOD])
def test_a_block_again_and_again_is_a_loop(period: int) -> None:
    block = list(range(2000, 2000 + period))
    repeats = max(MIN_REPEATS, -(-MIN_LOOP_TOKENS // period))
    assert loop_period(SPEECH + block * repeats) == period
    # a block whose repetitions are too few, or end in something else, is none
    assert loop_period(SPEECH + block * (repeats - 1)) is None
    assert loop_period(SPEECH + block * repeats + [5]) is None


def test_speech_is_no_loop_nor_is_a_short_answer() -> None:
    assert loop_period(SPEECH) is None
    assert loop_period([]) is None
    assert loop_period([7] * (MIN_LOOP_TOKENS - 1)) is None
    assert loop_period(list(range(MAX_PERIOD + 1)) * MIN_REPEATS) is None


@pytest.mark.parametrize(
    ("ends", "rooms", "expected"),
    [
        (("stop", "stop", "stop"), (512, 512, 512), True),
        (("stop", "stop", "length"), (512, 512, 512), True),
        (("stop", "length", "length"), (512, 512, 512), False),
        (("length", "length"), (512, 512), False),
        (("stop", "loop", "loop"), (9, 9, 9), False),
        (("stop", "length", "length"), (100, 100, 100), True),
        (("length", "context"), (100, 100), None),
        ((), (), None),
    ],
)
def test_answers_that_end(ends: tuple[str, ...], rooms: tuple[int, ...], expected: bool | None) -> None:
    found = [
        Answer("What?", "", 1, end, 3 if end == "loop" else None, None, room)
        for end, room in zip(ends, rooms, strict=True)
    ]
    assert ended_in_time(found, reasoning=False) is expected


@pytest.mark.parametrize(
    ("prompt", "text", "closed"),
    [
        ("<|Assistant|><think>\n", "Let me see.\n</think>\n\n42", True),
        ("<|Assistant|><think>\n", "Let me see. Let me see.", False),
        ("<|assistant|>", "<think>\nWell</think> 42", True),
        ("<|assistant|>", "<think>\nWell", False),
        ("<|assistant|>", "42", None),
    ],
)
def test_whether_a_thought_closes(prompt: str, text: str, closed: bool | None) -> None:
    assert thought_closed(prompt, text) is closed


def test_weights_beyond_the_free_memory_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "available_memory", lambda: 10**9)
    found = ask(tmp_path, FACTS, 2 * 10**9, 1)
    assert found == ([], "its 2.0 GB of weights exceed the 1.0 GB of available memory")


def test_an_artifact_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    found, why = ask(tmp_path, FACTS, 0, 1)
    assert found == []
    assert "has no tokenizer.json" in why
