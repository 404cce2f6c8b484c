"""The events of an answer: text of the thought, text of the answer, calls of functions, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .tool_calls import ToolCall

if TYPE_CHECKING:
    from .generation import Completion


@dataclass(frozen=True)
class Thought:
    """Text of a reasoning model's thought.

    Attributes:
        text: The text.
    """

    text: str


@dataclass(frozen=True)
class Answer:
    """Text of the answer.

    Attributes:
        text: The text.
    """

    text: str


@dataclass(frozen=True)
class Done:
    """The end of the answer.

    Attributes:
        completion: The whole answer, why it ended, and its timings.
    """

    completion: Completion


Event = Thought | Answer | ToolCall | Done
