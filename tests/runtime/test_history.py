"""Conversations that outgrow the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.errors import ContextLengthError
from edgekit.runtime.history import Window, slide

SYSTEM = {"role": "system", "content": "s"}


def turn(number: int, length: int = 5) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": str(number) * length},
        {"role": "assistant", "content": "a"},
        {"role": "tool", "content": "t"},
    ]


def encode(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    return [0] * sum(len(message["content"]) for message in messages)


def roles(messages: Sequence[Mapping[str, Any]]) -> str:
    return "".join(message["role"][0] for message in messages)


def test_what_fits_is_kept() -> None:
    messages = [SYSTEM, *turn(1), *turn(2)]
    prompt, kept = slide(messages, encode, 20, answer=5)
    assert kept == messages
    assert len(prompt) == 15


def test_the_oldest_turns_are_left_out_and_the_system_is_kept() -> None:
    messages = [SYSTEM, *turn(1), *turn(2), *turn(3), {"role": "user", "content": "4"}]
    prompt, kept = slide(messages, encode, 28, answer=None)  # 23 of 28: less than a quarter is left
    assert kept == [SYSTEM, *turn(3), {"role": "user", "content": "4"}]
    assert len(prompt) == 9
    assert slide(messages, encode, 28, answer=5)[1] == messages
    assert slide(messages, encode, 28, answer=6)[1] == kept


def test_the_last_question_stays() -> None:
    prompt, kept = slide([SYSTEM, *turn(1), {"role": "user", "content": "x" * 90}], encode, 20, answer=None)
    assert roles(kept) == "su"
    assert len(prompt) == 91
    assert slide([SYSTEM], encode, 1, answer=None)[1] == [SYSTEM]


def test_other_values_are_refused_before_anything_is_encoded(built_artifact: Path) -> None:
    with pytest.raises(ValueError, match="on_full is 'stop'; allowed: error, slide"):
        Window().fitted([SYSTEM], encode, 20, None, "stop")  # type: ignore[arg-type]
    assert Window().fitted([SYSTEM], encode, 1, None, "error") == ([0], [SYSTEM])
    with edgekit.load(built_artifact, context=128) as session, pytest.raises(ValueError, match="max_tokens is '5'"):
        session.chat([{"role": "user", "content": "Hello"}], max_tokens="5", on_full="slide")  # type: ignore[arg-type]


def unique(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{message['content']}{part}" for message in messages for part in range(20)]


def test_turns_begin_where_the_last_one_began_as_long_as_it_fits() -> None:
    window, messages, held = Window(), [SYSTEM], list[str]()
    starts = []
    for number in range(30):
        messages.append({"role": "user", "content": f"question {number} "})
        prompt, kept = window.fitted(messages, unique, 400, 20, "slide")  # type: ignore[type-var]
        assert len(prompt) <= 380
        assert kept[0] == SYSTEM
        moved = not starts or len(messages) - len(kept) > starts[-1]
        assert moved or prompt[: len(held)] == held  # only the question is new
        starts.append(len(messages) - len(kept))
        messages.append({"role": "assistant", "content": f"answer {number} "})
        held = prompt
    assert starts == sorted(starts)
    assert 3 <= len(set(starts)) <= 10


def test_another_conversation_begins_where_it_would_alone() -> None:
    window = Window()
    first = [SYSTEM, *turn(1), *turn(2), *turn(3), {"role": "user", "content": "4"}]
    other = [SYSTEM, *turn(5), *turn(6), *turn(7), *turn(8), {"role": "user", "content": "9"}]
    window.fitted(first, encode, 28, None, "slide")
    assert window.fitted(other, encode, 28, None, "slide") == slide(other, encode, 28, None)
    window.fitted(other, encode, 28, None, "slide")
    assert window.fitted(first[:4], encode, 28, None, "slide")[1] == first[:4]  # it fits
    assert window.fitted([SYSTEM], encode, 1, None, "slide")[1] == [SYSTEM]


def test_a_generic_question_at_the_same_place_is_no_sign_of_the_same_conversation() -> None:
    window, generic = Window(), [{"role": "user", "content": "go on"}, *turn(0)[1:]]
    first = [SYSTEM, *turn(1, 20), *turn(2, 60), *generic, {"role": "user", "content": "4"}]
    other = [SYSTEM, *turn(5, 70), *turn(6), *generic, {"role": "user", "content": "8"}]
    assert window.fitted(first, encode, 100, None, "slide")[1] == [SYSTEM, *first[7:]]  # from the generic one on
    assert window.fitted(other, encode, 100, None, "slide")[1] == [SYSTEM, *other[4:]]


def test_a_start_that_no_longer_fits_is_moved_on() -> None:
    messages = [SYSTEM, *turn(1), *turn(2), *turn(3), {"role": "user", "content": "4"}]  # 1, 7, 7, 7 and 1
    assert slide(messages, encode, 22, 5, last=4)[1] == [SYSTEM, *messages[4:]]  # 16 of 17
    assert slide(messages, encode, 20, 5, last=4)[1] == [SYSTEM, *messages[7:]]  # 16 of 15
    assert slide(messages, encode, 20, 5, last=5)[1] == [SYSTEM, *messages[7:]]  # no question


def test_a_session_evaluates_only_what_is_new_once_turns_are_left_out(built_artifact: Path) -> None:
    messages: list[dict[str, str]] = []
    held: list[int] = []
    dropped, unmoved = 0, 0
    with edgekit.load(built_artifact, context=128) as session:
        for number in range(12):
            messages.append({"role": "user", "content": f"Question {number}?"})
            done = session.chat(messages, max_tokens=4, on_full="slide").complete()
            if dropped and done.dropped_messages == dropped:
                assert done.prompt_tokens[: len(held)] == held
                unmoved += 1
            dropped, held = done.dropped_messages, done.prompt_tokens
            messages.append({"role": "assistant", "content": done.answer})
    assert unmoved


def test_a_session_tells_what_it_left_out(built_artifact: Path) -> None:
    messages: list[dict[str, str]] = []
    dropped = 0
    with edgekit.load(built_artifact, context=128) as session:
        for number in range(6):
            messages.append({"role": "user", "content": f"Question {number}? " * 3})
            if number == 5:
                with pytest.raises(ContextLengthError):
                    session.chat(messages)
            done = session.chat(messages, max_tokens=12, on_full="slide").complete()
            assert len(done.prompt_tokens) <= 116
            dropped = max(dropped, done.dropped_messages)
            messages.append({"role": "assistant", "content": done.answer})
    assert dropped >= 2
    assert dropped % 2 == 0
