"""The calls of functions that a model writes into its answer, in the forms that models know.

    Hermes, Qwen   <tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call>
    DeepSeek-R1    <｜tool▁calls▁begin｜> and for each call
                   <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\\n```json\\n{...}\\n```<｜tool▁call▁end｜>,
                   then <｜tool▁calls▁end｜>
    Llama 3        {"name": ..., "parameters": {...}}, which is the whole answer

Sources: the models' chat templates. :class:`CallReader` takes the answer's text apart while it is generated;
``tools.py`` chooses the form.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..json_file import finite_float, refuse_constant
from ..json_text import json_text
from .call_end import CallEnd

# Parts of a call of R1. As one expression they would take cubic time for a long run of white space.
_R1_CALL, _R1_CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_R1_NAME = re.compile(r"\s*(?:function\s*)?<｜tool▁sep｜>\s*([^\s`<][^\n`<]*)")
_R1_END = re.compile(r"\s*(?:<｜tool▁call▁end｜>|\Z)")
_SPACE = re.compile(r"\s*")
_TAG = re.compile(r"<[^<>\s]+>")
_FENCE = "```"
_DECODER = json.JSONDecoder(parse_float=finite_float, parse_constant=refuse_constant)
_CALL_KEYS = ("name", "type", "function", "parameters", "arguments")  # of Llama's calls


def call_id() -> str:
    """A new name of a call, by which its result refers to it."""
    return f"call_{secrets.token_hex(12)}"


@dataclass(frozen=True)
class ToolCall:
    """A call of a function.

    Attributes:
        name: The function's name, as the model wrote it.
        arguments: The arguments, a JSON object as text.
        id: By which the message with the result refers to the call.
    """

    name: str
    arguments: str
    id: str = field(default_factory=call_id)

    @property
    def values(self) -> dict[str, Any]:
        """The arguments by name."""
        found: dict[str, Any] = json.loads(self.arguments)
        return found

    @property
    def message(self) -> dict[str, Any]:
        """The call in the ``tool_calls`` of a message."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class CallForm:
    """How a model writes calls.

    Attributes:
        name: ``hermes``, ``r1`` or ``llama3``.
        begin, end: Around all calls of the answer. Empty if a call is the whole answer.
        between: Between two calls.
        before: Before a call's arguments, with ``NAME`` for the function's name.
        after: After its arguments.
    """

    name: str
    begin: str
    end: str
    between: str
    before: str
    after: str

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in a call, which may be tokens of the vocabulary, even special ones."""
        return tuple(_TAG.findall(self.written([("NAME", "{}")])))

    def written(self, calls: Sequence[tuple[str, str]]) -> str:
        """Calls, each a name and its arguments, as the model writes them."""
        texts = [self.opening(name) + arguments + self.after for name, arguments in calls]
        return self.begin + self.between.join(texts) + self.end

    def opening(self, name: str) -> str:
        """What stands before the arguments."""
        return self.before.replace("NAME", name if self.name == "r1" else json.dumps(name, ensure_ascii=False)[1:-1])

    def read(self, block: str) -> list[ToolCall]:
        """The calls in a text that begins as they do; none if it is something else.

        Without tags, a call has to be told from any other JSON object: it has arguments and no keys but a call's.
        """
        if self.name == "r1":
            found = [_call(name, _json(text)) for name, text in _r1_calls(block)]
            return [call for call in found if call is not None] if all(found) else []
        text = block.removeprefix("<tool_call>").strip().removesuffix("</tool_call>").strip()
        calls = []
        while text:
            try:
                value, end = _DECODER.raw_decode(text)
            except (ValueError, RecursionError):
                return []
            call = _of_object(value) if self.begin or _is_plain_call(value) else None
            if call is None:
                return []
            calls.append(call)
            text = text[end:].lstrip().removeprefix(";").lstrip()
        return calls


HERMES = CallForm(
    "hermes", "<tool_call>\n", "\n</tool_call>", "\n</tool_call>\n<tool_call>\n", '{"name": "NAME", "arguments": ', "}"
)
R1 = CallForm(
    "r1",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "\n",
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n",
    "\n```<｜tool▁call▁end｜>",
)
LLAMA3 = CallForm("llama3", "", "", "; ", '{"name": "NAME", "parameters": ', "}")
_TAGS = {"hermes": ("<tool_call>", "</tool_call>"), "r1": (R1.begin, R1.end)}


class CallReader:
    """Takes the text of an answer apart into text and calls. The white space around calls belongs to neither.

    Args:
        form: How the model writes calls.
        names: The functions that the model was given. Where calls have no tags, JSON that names another one is text.
        single: Whether only the first call counts; what follows it is dropped.

    Attributes:
        calls: The calls so far.
        tags: The form's tags, which the text must have even if they are special tokens.
    """

    def __init__(self, form: CallForm, names: Collection[str], *, single: bool = False) -> None:
        self.calls: list[ToolCall] = []
        self._form, self._single = form, single
        self._names = frozenset(name.strip() for name in names)
        self.tags = form.tags
        self._open, self._close = _TAGS.get(form.name, ("", ""))
        if single and form.name == "r1":
            self._close = _R1_CALL_END  # of the first call, not of all of them
        self._held = ""
        self._end = CallEnd(self._close)
        self._inside = not self._open  # a form without tags may begin with the answer's first character
        self._behind = False  # whether nothing visible has followed the last call

    @property
    def is_complete(self) -> bool:
        """Whether there is the only call that counts, so that the answer may end."""
        return self._single and bool(self.calls)

    def push(self, text: str) -> str:
        """Add text, and return the text that is certain not to belong to a call."""
        if self.is_complete:
            return ""
        self._held += text
        if not self._open:
            return self._untagged()
        shown = ""
        while True:
            if self._inside:
                end = self._end.look(self._held)
                if end < 0:
                    return shown
                shown += self._close_block(end)
                if self._single and self.calls:
                    return shown
            else:
                before, tag, _ = self._held.partition(self._open)
                if not tag:
                    return shown + self._certain()
                text = before.rstrip()
                shown += self._visible(text)
                # The white space goes with the block: it is text if the block is.
                self._held, self._inside, self._end = self._held[len(text) :], True, CallEnd(self._close)

    def flush(self) -> str:
        """End the answer, and return the text that was held back."""
        shown = ""
        while self._open and self._inside and self._end.first >= 0:  # a string of JSON did not end
            shown += self._close_block(len(self._held)) + self.push("")
        held, self._held = self._held, ""
        if self.is_complete:
            return shown
        inside, self._inside = self._inside, False
        return shown + (self._take(held) if inside else self._visible(held))

    def _close_block(self, end: int) -> str:
        """Read a block of calls. What seems to be in a string may be none: if need be, the first closing tag counts."""
        if 0 <= self._end.first < end and not self._form.read(self._held[:end].strip()):
            end = self._end.first
        block, self._held, self._inside = self._held[:end], self._held[end:], False
        return self._take(block)

    def _take(self, block: str) -> str:
        """Read a block of calls; it is text, with the white space before it, if it is not valid."""
        found = self._form.read(block.strip())
        if not found or not (self._open or self._names.issuperset(call.name for call in found)):
            return self._visible(block)
        self.calls.extend(found[:1] if self._single else found)
        self._behind = True
        return ""

    def _certain(self) -> str:
        """The held text but for white space and the beginning of a tag at its end."""
        size = len(self._held) - _overlap(self._held, self._open)
        size = len(self._held[:size].rstrip())
        text, self._held = self._held[:size], self._held[size:]
        return self._visible(text)

    def _visible(self, text: str) -> str:
        """Text without the white space that follows a call directly."""
        if self._behind:
            text = text.lstrip()
            self._behind = not text
        return text

    def _untagged(self) -> str:
        """Everything is held back while it can be a call."""
        if self._inside and not _may_be_call(self._held.lstrip()):
            self._inside = False
        if self._inside:
            if self._single and self._end.end < 0 and (end := self._end.look(self._held)) >= 0:
                self._take(self._held[:end])  # the first call is complete; what follows it does not count
            return ""
        text, self._held = self._held, ""
        return text


def _r1_calls(block: str) -> Iterator[tuple[str, str]]:
    """The name and the arguments of each complete call of R1."""
    at = 0
    while (begin := block.find(_R1_CALL, at)) >= 0:
        at = begin + len(_R1_CALL)
        name = _R1_NAME.match(block, at)
        opening = -1 if name is None else _end(_SPACE, block, name.end())
        if name is None or not block.startswith(_FENCE, opening):
            continue
        start = opening + len(_FENCE)
        start += len("json") if block.startswith("json", start) else 0
        fence = block.find(_FENCE, _json_end(block, start))
        while fence >= 0 and _R1_END.match(block, fence + len(_FENCE)) is None:  # a fence inside of the arguments
            fence = block.find(_FENCE, fence + 1)
        if fence < 0:
            return
        yield name[1].rstrip(), block[start:fence].strip()
        at = _end(_R1_END, block, fence + len(_FENCE))


def _json_end(text: str, at: int) -> int:
    """Where a JSON value ends, whose strings may hold anything; the place itself if there is none."""
    try:
        return _DECODER.raw_decode(text, _end(_SPACE, text, at))[1]
    except (ValueError, RecursionError):
        return at


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where a match that begins at a place ends; the place itself if there is none."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _may_be_call(text: str) -> bool:
    if not text:
        return True
    key = re.match(r'\{\s*(?:"([^"]*)("?))?', text)
    if key is None:
        return False
    name, closed = key.groups()
    if name is None:
        return key.end() == len(text)
    return name in _CALL_KEYS if closed else any(each.startswith(name) for each in _CALL_KEYS)


def _overlap(text: str, tag: str) -> int:
    """The length of the longest suffix of a text that is a proper prefix of a tag."""
    return next((n for n in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:n])), 0)


def _is_plain_call(value: Any) -> bool:
    """Whether a JSON object is a call and nothing else, as Llama writes it."""
    if not isinstance(value, dict) or not set(value) <= set(_CALL_KEYS):
        return False
    inner = value.get("function")
    described = inner if isinstance(inner, dict) else value
    return set(described) <= set(_CALL_KEYS) and ("arguments" in described or "parameters" in described)


def _of_object(value: Any) -> ToolCall | None:
    """A call from its JSON object, whose arguments models also call ``parameters``."""
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):
        value = inner
    name = value.get("name", inner)
    return _call(name, value["arguments"] if "arguments" in value else value.get("parameters", {}))


def _call(name: Any, arguments: Any) -> ToolCall | None:
    if isinstance(arguments, str):
        arguments = _json(arguments)
    if not isinstance(name, str) or not name.strip() or not isinstance(arguments, dict):
        return None
    return ToolCall(name.strip(), json_text(arguments))


def _json(text: str) -> Any:
    try:
        return json.loads(text or "{}", parse_float=finite_float, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return None
