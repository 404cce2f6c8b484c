"""The native tokenizer, chat format and answers through ctypes (``edgekit_text.h``).

Where the tokenizers library is installed, edgekit's own runtime uses it and the chat template; tests compare the two.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import EngineError
from . import CALLBACK, OK, Sampling, last_error, library

PLAIN, BOS, NO_BOS = 1, 2, 4
PROMPT, THOUGHT, ANSWER, DONE = 1, 2, 3, 4
FINISH = ("stop", "length", "context", "interrupted", "loop")  # indexed by ek_finish
THOUGHT_ENDS = (None, "model", "budget", "loop")  # indexed by ek_thought_end
_LONG, _INT32, _POINTER = ctypes.c_int64, ctypes.c_int32, ctypes.c_void_p


class _Message(ctypes.Structure):
    """ek_message."""

    _fields_ = (("role", ctypes.c_char_p), ("content", ctypes.c_char_p), ("bytes", _LONG), ("whole", _INT32))


class _Request(ctypes.Structure):
    """ek_request."""

    _fields_ = (
        ("size", _LONG), ("messages", ctypes.POINTER(_Message)), ("message_count", _LONG),
        ("prompt", ctypes.c_char_p), ("prompt_bytes", _LONG), ("prompt_ids", _POINTER), ("prompt_id_count", _LONG),
        ("sampling", ctypes.POINTER(Sampling)), ("seed", ctypes.c_uint64), ("has_seed", _INT32),
        ("ignore_stops", _INT32), ("max_tokens", _LONG), ("max_thought_tokens", _LONG),
        ("stop_texts", ctypes.POINTER(ctypes.c_char_p)), ("stop_text_count", _LONG),
        ("stop_ids", _POINTER), ("stop_id_count", _LONG), ("loop_guard", _INT32), ("no_speculation", _INT32),
    )  # fmt: skip


class _Completion(ctypes.Structure):
    """ek_completion."""

    _fields_ = (
        ("size", _LONG), ("finish", _INT32), ("thought_closed", _INT32), ("text", _POINTER), ("text_bytes", _LONG),
        ("prompt_ids", ctypes.POINTER(_INT32)), ("prompt_tokens", _LONG), ("reused_tokens", _LONG),
        ("ids", ctypes.POINTER(_INT32)), ("tokens", _LONG), ("thought_tokens", _LONG), ("ttft_s", ctypes.c_double),
        ("decode_tok_s", ctypes.c_double), ("loops", _LONG),
        ("accepted_tokens", _LONG),
    )  # fmt: skip


class _Event(ctypes.Structure):
    """ek_event."""

    _fields_ = (
        ("size", _LONG), ("kind", _INT32), ("text", _POINTER), ("bytes", _LONG), ("prompt_done", _LONG),
        ("prompt_total", _LONG), ("completion", ctypes.POINTER(_Completion)),
    )  # fmt: skip


_ON_EVENT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Event), ctypes.c_void_p)


@dataclass(frozen=True)
class NativeAnswer:
    """An answer of ``ek_generate``; see ``ek_completion``."""

    text: str
    thought: str
    answer: str
    tokens: list[int]
    prompt_tokens: list[int]
    finish_reason: str
    reused_tokens: int
    thought_tokens: int
    thought_closed: str | None
    loops: int
    accepted_tokens: int
    ttft_s: float
    decode_tok_s: float


class NativeText:
    """The text tables of an artifact.

    Args:
        folder: Holds ``edgekit_text.bin``.

    Raises:
        EngineError: The file is missing, damaged or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.handle = ctypes.c_void_p()
        _check(library().ek_text_open(os.fsencode(folder), self.handle))

    def close(self) -> None:
        """Free the handle. Closing twice is allowed."""
        library().ek_text_close(self.handle)
        self.handle = ctypes.c_void_p()

    def encode(self, text: str | bytes, flags: int = 0) -> list[int]:
        """The ids of a text.

        Args:
            text: A text, or bytes that need not be valid UTF-8.
            flags: A sum of :data:`PLAIN`, :data:`BOS` and :data:`NO_BOS`.

        Raises:
            EngineError: The flags are not valid, or a control token cannot be written as text.
        """
        data = text.encode("utf-8") if isinstance(text, str) else text
        ids = np.empty(3 * len(data) + 1, np.int32)
        count = _LONG()
        encode = library().ek_text_encode
        _check(encode(self.handle, data, len(data), flags, ids.ctypes.data, ids.size, count))
        found: list[int] = ids[: count.value].tolist()
        return found

    def decode(self, ids: Sequence[int]) -> bytes:
        """The text of ids, as UTF-8."""
        given, size = np.array(ids, np.int32), _LONG()
        decode = library().ek_text_decode
        _check(decode(self.handle, given.ctypes.data, given.size, None, 0, size))
        text = ctypes.create_string_buffer(size.value + 1)
        _check(decode(self.handle, given.ctypes.data, given.size, text, len(text), size))
        return text.raw[: size.value]

    def words(self, text: str | bytes) -> list[str]:
        """The words of a text after normalization, without looking for added tokens."""
        data = text.encode("utf-8") if isinstance(text, str) else text
        most = 3 * len(data) + 1
        normal, ends = ctypes.create_string_buffer(most), np.empty(most, np.int64)
        size, count = _LONG(), _LONG()
        words = library().ek_text_words
        _check(words(self.handle, data, len(data), normal, most, size, ends.ctypes.data, most, count))
        places = [0, *ends[: count.value].tolist()]
        return [normal.raw[a:b].decode("utf-8") for a, b in pairwise(places)]

    def prompt(self, messages: Sequence[Mapping[str, str]], whole: bool = False) -> list[int]:
        """The ids of a conversation's prompt.

        Args:
            messages: The messages, oldest first.
            whole: Whether answers are everything that the model wrote.

        Raises:
            EngineError: The artifact has no chat format, or it does not allow this conversation.
        """
        array, count = _messages(messages, whole), _LONG()
        prompt = library().ek_text_prompt
        _check(prompt(self.handle, array, len(messages), None, 0, count))
        ids = np.empty(count.value, np.int32)
        _check(prompt(self.handle, array, len(messages), ids.ctypes.data, ids.size, count))
        found: list[int] = ids.tolist()
        return found

    def prepare(self, session: ctypes.c_void_p, messages: Sequence[Mapping[str, str]], whole: bool = False) -> None:
        """Evaluate what the next prompt of a conversation begins with.

        Raises:
            EngineError: As ``ek_prepare`` says.
        """
        _check(library().ek_prepare(session, self.handle, _messages(messages, whole), len(messages)))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What a stream returns for each id, and at the end."""
        stream, text, size = ctypes.c_void_p(), ctypes.c_void_p(), _LONG()
        _check(library().ek_stream_create(self.handle, stream))
        try:
            found = []
            for i in ids:
                _check(library().ek_stream_push(stream, i, text, size))
                found.append(ctypes.string_at(text.value or 0, size.value).decode("utf-8"))
            _check(library().ek_stream_finish(stream, text, size))
            return [*found, ctypes.string_at(text.value or 0, size.value).decode("utf-8")]
        finally:
            library().ek_stream_free(stream)

    def generate(
        self,
        session: ctypes.c_void_p,
        prompt: str | Sequence[int] | Sequence[Mapping[str, str]],
        *,
        max_tokens: int = 0,
        max_thought_tokens: int = 0,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop_texts: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        ignore_stops: bool = False,
        loop_guard: int = 0,
        speculate: bool = True,
        on_event: Callable[[int, str], object] = lambda kind, text: False,
    ) -> NativeAnswer:
        """Generate an answer.

        Args:
            session: A handle of ``ek_session_create``.
            prompt: Text, ids, or messages.
            max_tokens, max_thought_tokens, sampling, seed, stop_texts, stop_ids, ignore_stops, loop_guard: As in
                ``ek_request``.
            speculate: Whether tokens may be guessed; the opposite of ``no_speculation``.
            on_event: Called with each event's kind and text; a true value cancels.

        Raises:
            EngineError: As ``ek_generate`` says.
        """
        request = _Request(size=ctypes.sizeof(_Request), max_tokens=max_tokens, max_thought_tokens=max_thought_tokens)
        ids = np.empty(0, np.int32)
        if isinstance(prompt, str):
            data = prompt.encode("utf-8")
            request.prompt, request.prompt_bytes = data, len(data)
        elif prompt and isinstance(prompt[0], Mapping):
            request.messages = _messages([m for m in prompt if isinstance(m, Mapping)], whole=False)
            request.message_count = len(prompt)
        else:
            ids = np.array(prompt, np.int32)
            request.prompt_ids, request.prompt_id_count = ids.ctypes.data, ids.size
        if sampling is not None:
            request.sampling = ctypes.pointer(sampling)
        request.has_seed, request.seed, request.ignore_stops = seed is not None, seed or 0, ignore_stops
        request.stop_texts = (ctypes.c_char_p * len(stop_texts))(*(text.encode("utf-8") for text in stop_texts))
        stops = np.array(stop_ids, np.int32)
        request.stop_text_count, request.stop_ids, request.stop_id_count = (
            len(stop_texts),
            stops.ctypes.data,
            stops.size,
        )
        request.loop_guard = loop_guard
        request.no_speculation = not speculate
        receiver = _Receiver(on_event)
        status = library().ek_generate(session, self.handle, ctypes.byref(request), receiver.callback, None)
        _check(status)
        if receiver.error is not None:
            raise receiver.error
        return receiver.answer()


class _Receiver:
    """Collects the events of one answer. An exception in the caller's function cancels the answer and is kept."""

    def __init__(self, on_event: Callable[[int, str], object]) -> None:
        self.callback = _ON_EVENT(self._receive)
        self.error: BaseException | None = None
        self._on_event = on_event
        self._texts: dict[int, list[str]] = {THOUGHT: [], ANSWER: []}
        self._answer: NativeAnswer | None = None

    def answer(self) -> NativeAnswer:
        if self._answer is None:
            raise EngineError(f"an answer ended without EK_EVENT_DONE (status {CALLBACK})")
        return self._answer

    def _receive(self, pointer: ctypes._Pointer[_Event], context: int | None) -> int:
        event = pointer.contents
        text = ctypes.string_at(event.text, event.bytes).decode("utf-8")
        if event.kind in self._texts:
            self._texts[event.kind].append(text)
        if event.kind == DONE:
            self._answer = self._done(event.completion.contents)
        try:
            return int(bool(self._on_event(event.kind, text)))
        except BaseException as error:
            self.error = error
            return 1

    def _done(self, done: _Completion) -> NativeAnswer:
        return NativeAnswer(
            text=ctypes.string_at(done.text, done.text_bytes).decode("utf-8"),
            thought="".join(self._texts[THOUGHT]),
            answer="".join(self._texts[ANSWER]),
            tokens=list(done.ids[: done.tokens]),
            prompt_tokens=list(done.prompt_ids[: done.prompt_tokens]),
            finish_reason=FINISH[done.finish],
            reused_tokens=done.reused_tokens,
            thought_tokens=done.thought_tokens,
            thought_closed=THOUGHT_ENDS[done.thought_closed],
            loops=done.loops,
            accepted_tokens=done.accepted_tokens,
            ttft_s=done.ttft_s,
            decode_tok_s=done.decode_tok_s,
        )


def _messages(messages: Sequence[Mapping[str, str]], whole: bool) -> ctypes.Array[_Message]:
    contents = [message["content"].encode("utf-8") for message in messages]
    return (_Message * len(messages))(
        *(
            _Message(message["role"].encode(), content, len(content), int(whole and message["role"] == "assistant"))
            for message, content in zip(messages, contents, strict=True)
        )
    )


def _check(status: int) -> None:
    if status != OK:
        raise EngineError(last_error())
