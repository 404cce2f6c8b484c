"""Thought budgets and the loop guard: watches the tokens of one answer with the native ``text/watch.h``.

The native library holds the only definition of a loop and of how a thought is closed, so answers of every engine, of
``edgekit-run`` and of the C API are watched alike.
"""

from __future__ import annotations

import ctypes
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..arguments import check_count
from ..errors import EngineError

LoopGuard = Literal["thought", "off", "all"]  # in the order of ek_loop_guard
Action = Literal["go on", "end", "close spent", "close loop"]  # in the order of ek_watch_action
_ACTIONS: tuple[Action, ...] = get_args(Action)


class Watch:
    """Watches one answer.

    Args:
        think_tokens: The most tokens of a thought; None is limited only by the context.
        loop_guard: Where to look for text that repeats itself without an end: in the ``thought``, in ``all`` of the
            answer, or nowhere (``off``).
        inside: Whether the prompt ends with an open thought.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, think_tokens: int | None = None, loop_guard: str = "thought", *, inside: bool = False) -> None:
        if think_tokens is not None:
            check_count("think_tokens", think_tokens)
        guards = get_args(LoopGuard)
        if loop_guard not in guards:
            raise ValueError(f"loop_guard is {loop_guard!r}; allowed: {', '.join(guards)}")
        self._library = native.library()
        self._handle = ctypes.c_void_p()
        _check(self._library.ek_watch_create(think_tokens or 0, guards.index(loop_guard), int(inside), self._handle))

    def push(self, token: int, *, in_thought: bool) -> Action:
        """Add a generated token and return what to do.

        Args:
            token: The id.
            in_thought: Whether the thought goes on after it.

        Returns:
            ``close spent`` (the thought has used its tokens) and ``close loop`` ask to append :func:`closing`, after
            each token until the thought has ended; ``end`` asks to end the answer.
        """
        action = ctypes.c_int32()
        _check(self._library.ek_watch_push(self._handle, token, int(in_thought), action))
        return _ACTIONS[action.value]

    def adjust(self, logits: NDArray[np.float32]) -> None:
        """Make the tokens of a loop less likely, as long as that is due: changes logits, float32 (vocab_size,)."""
        _check(self._library.ek_watch_adjust(self._handle, logits.ctypes.data, logits.size))

    @property
    def loops(self) -> int:
        """How often a loop was found."""
        return int(self._library.ek_watch_loops(self._handle))

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.ek_watch_free(self._handle)


def closing(action: Action, text: str) -> str:
    """What closes a thought: a sentence, ``</think>`` and a blank line.

    Args:
        action: ``close spent`` or ``close loop``.
        text: What the model has written so far, which decides on which line the sentence begins.
    """
    data = text.encode("utf-8")
    found, size = ctypes.create_string_buffer(400), ctypes.c_int64()
    _check(native.library().ek_thought_closing(_ACTIONS.index(action), data, len(data), found, len(found), size))
    return found.raw[: size.value].decode("utf-8")


def _check(status: int) -> None:
    if status != native.OK:
        raise EngineError(native.last_error())
