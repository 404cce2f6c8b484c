"""Jobs of the scheduler whose answers are scripted, and what they tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.runtime.sampler import Sampler
from edgekit.runtime.thought import Piece
from edgekit.runtime.tool_calls import ToolCall
from edgekit.sampling import Sampling
from edgekit.serve.job import Begun, Event, Job, Text


class Scripted:
    """Stands for an Answer: its tokens are given, and it records the logits."""

    def __init__(self, ids: Sequence[int], script: Sequence[int], *, hold: threading.Event | None = None) -> None:
        self.pending, self.script, self.hold = list(ids), list(script), hold
        self.tokens: list[int] = []
        self.rows: list[NDArray[np.float32]] = []
        self.finish = "interrupted"
        self.thought_tokens = 0
        self.ended, self.answer_tokens = False, range(0)
        self.tool_calls: list[ToolCall] = []

    @property
    def sampler(self) -> Sampler:
        return Sampler(Sampling(temperature=0), self.rows[-1].size)

    def adjust(self, logits: NDArray[np.float32]) -> None:
        if self.hold is not None:
            self.hold.wait(10)
        self.rows.append(logits.copy())

    def accept(self, token: int, untouched: object) -> None:
        self.tokens.append(self.script[len(self.tokens)])
        self.pending = self.tokens[-1:]

    def read(self) -> list[Piece]:
        return [Piece(str(self.tokens[-1]))]

    def force(self) -> bool:
        return False

    def ends(self, room: int) -> bool:
        if len(self.tokens) < len(self.script) and room >= len(self.pending):
            return False
        self.finish = "length"
        return True

    def flush(self) -> list[Piece]:
        return []


class Slow(Scripted):
    """Each token takes 10 ms."""

    def read(self) -> list[Piece]:
        time.sleep(0.01)
        return super().read()


class Watched:
    """A job and its events."""

    def __init__(self, answer: Any, time_limit_s: float = 60, number: int = 0) -> None:
        self.answer, self.events, self.ended = answer, list[Event](), threading.Event()
        self.job = Job(answer, self._emit, time_limit_s, number=number)

    def _emit(self, event: Event) -> None:
        if isinstance(event, Begun):
            return
        self.events.append(event)
        if not isinstance(event, Text):
            self.ended.set()

    def wait(self) -> Event:
        assert self.ended.wait(30), "the job does not end"
        return self.events[-1]
