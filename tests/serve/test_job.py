from __future__ import annotations

from typing import Any

from edgekit.runtime.logprobs import TokenLogprob
from edgekit.runtime.thought import Piece
from edgekit.runtime.tool_calls import ToolCall
from edgekit.serve.job import Begun, Ended, Event, Job, Text
from edgekit.serve.slots import Slot


class Fixed:
    """Stands for an Answer that has generated two tokens."""

    pending, tokens, thought_tokens, finish, tool_calls = [1, 2, 3], [4, 5], 1, "interrupted", list[Any]()
    ended, answer_tokens = False, range(1, 2)

    def flush(self) -> list[Piece]:
        return [Piece("rest")]


class Engine:
    context, position = 10, 2


def job(events: list[Event], seconds: float = 60) -> Job:
    answer: Any = Fixed()
    return Job(answer, events.append, seconds)


def test_what_a_slot_holds_is_not_evaluated() -> None:
    engine: Any = Engine()
    slot, events = Slot(engine), list[Event]()
    slot.held = [1, 2]
    made = job(events)
    made.begin(slot)
    assert made.left == [3]
    made.end()
    assert events == [Ended("interrupted", 3, 2, 2, 1)]


def test_an_answer_that_is_late_ends_with_the_text_that_was_held_back() -> None:
    events: list[Event] = []
    made = job(events, 0)
    assert made.late
    made.end("late")
    assert events[:2] == [Begun(), Text([Piece("rest")])]
    assert isinstance(events[2], Ended)
    assert (events[2].first_s is not None, events[2].decode_s) == (True, 0)


def test_log_probabilities_are_told_once_and_only_of_the_answer() -> None:
    events: list[Event] = []
    answer: Any = Fixed()
    found = [TokenLogprob(token, str(token), -1.0) for token in (4, 5)]
    logprobs: Any = type("Found", (), {"found": found})()
    made = Job(answer, events.append, 60, logprobs, frozenset({9}))
    made.tell([Piece("a")])
    made.tell([])
    found.extend(TokenLogprob(token, str(token), -2.0) for token in (6, 9, 7))
    answer.answer_tokens = range(1, 4)  # the last one is held back
    made.tell([Piece("b")])
    assert events[1:] == [Text([Piece("a")], found[1:2]), Text([Piece("b")], found[2:3])]  # the thought has one token


def test_no_log_probability_is_told_before_it_is_known_where_the_answer_begins() -> None:
    events: list[Event] = []
    answer: Any = Fixed()
    found = [TokenLogprob(token, str(token), -1.0) for token in (4, 5)]
    logprobs: Any = type("Found", (), {"found": found})()
    made = Job(answer, events.append, 60, logprobs)
    answer.answer_tokens = range(0)
    made.tell([Piece("a", thought=True)])
    answer.answer_tokens = range(2)
    made.tell([])
    assert events[1:] == [Text([Piece("a", thought=True)])]
    answer.ended = True
    made.tell([])
    assert events[2:] == [Text([], found)]


def test_a_call_is_told_once() -> None:
    events: list[Event] = []
    made, call = job(events), ToolCall("f", "{}")
    answer: Any = made.answer
    made.tell([])
    answer.tool_calls = [call]
    made.tell([])
    made.tell([])
    assert events == [Begun(), Text([], [], [call])]


def test_a_job_can_be_cancelled() -> None:
    made = job([])
    assert not made.cancelled
    made.cancel()
    assert (made.cancelled, made.late) == (True, False)
