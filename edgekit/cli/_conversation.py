"""The conversation of ``edgekit run``: its messages, its settings, and the commands that begin with a slash."""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import UsageError
from ..host import expanded
from ..json_file import read_json_object
from ..json_text import json_text
from ..output_file import write_output
from ..runtime.chat import Message
from ..runtime.generation import Completion
from ..runtime.session import Session
from ._chat_input import can_edit
from ._stream import Thoughts, figures

_FORMAT = "edgekit.conversation/1"


@dataclass
class Conversation:
    """What has been said, and how answers are shown.

    Attributes:
        session: The open session.
        thoughts: How thoughts are shown.
        think_tokens: The most tokens of a thought; None for no limit.
        messages: The messages, oldest first, without the system prompt.
        system: The system prompt; empty for the model's own.
        last: The last answer.
    """

    session: Session
    thoughts: Thoughts = "show"
    think_tokens: int | None = None
    messages: list[Message] = field(default_factory=list)
    system: str = ""
    last: Completion | None = None

    def prompt(self, question: str) -> list[Message]:
        """The messages with a question, which is not added."""
        opening: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return [*opening, *self.messages, {"role": "user", "content": question}]

    def add(self, question: str, completion: Completion) -> None:
        """Add a question and its answer."""
        # With its thought, an answer keeps the white space that the model wrote behind it, as the model knows it.
        content = completion.text if completion.thought_closed else completion.answer
        self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": content}]
        self.last = completion

    def drop(self, count: int) -> None:
        """Remove the oldest messages."""
        self.messages = self.messages[count:]

    def take_back(self) -> str | None:
        """Remove the last question with its answer, and return the question; None if there is none."""
        if not self.messages:
            return None
        question = self.messages[-2]["content"]
        self.messages = self.messages[:-2]
        return question


@dataclass(frozen=True)
class Command:
    """A command of the conversation.

    Attributes:
        usage: Its arguments, for people.
        help: What it does.
        run: Takes the conversation and the rest of the line, and returns what to say, or raises UsageError.
    """

    usage: str
    help: str
    run: Callable[[Conversation, str], str]


def _reset(conversation: Conversation, rest: str) -> str:
    conversation.messages, conversation.last = [], None
    return "conversation forgotten"


def _system(conversation: Conversation, rest: str) -> str:
    conversation.system = rest
    return (
        "system prompt set; it applies from the next question on" if rest else "the model's own system prompt applies"
    )


_SHOWN: dict[Thoughts, str] = {
    "show": "thoughts are shown",
    "fold": "thoughts are folded to one line",
    "hide": "thoughts are hidden",
}


def _think(conversation: Conversation, rest: str) -> str:
    for thoughts, said in _SHOWN.items():
        if rest == thoughts:
            conversation.thoughts = thoughts
            return said
    if rest == "free":
        conversation.think_tokens = None
        return "thoughts have no limit"
    if re.fullmatch(r"0*[1-9][0-9]{0,8}", rest):
        if not conversation.session.manifest.reasoning:
            raise UsageError(f"{conversation.session.manifest.name} does not think before it answers")
        conversation.think_tokens = int(rest)
        return f"thoughts are closed after {rest} tokens"
    found = f"/think {rest} is not known" if rest else "/think needs an argument"
    raise UsageError(f"{found}; allowed: {', '.join(_SHOWN)}, free, or a number of tokens")


def _stats(conversation: Conversation, rest: str) -> str:
    engine = conversation.session.engine
    held = f"{_turns(conversation.messages)}, {engine.position} of {engine.context} tokens of context used"
    return held + (f"\nlast answer: {figures(conversation.last)}" if conversation.last else "")


def _copy(conversation: Conversation, rest: str) -> str:
    if conversation.last is None:
        raise UsageError("there is no answer to copy")
    if not sys.stdout.isatty():
        raise UsageError("/copy needs a terminal")
    text = base64.b64encode(conversation.last.answer.encode("utf-8")).decode("ascii")
    sys.stdout.write(f"\x1b]52;c;{text}\a")  # OSC 52, which also works through ssh
    sys.stdout.flush()
    return "answer sent to the terminal's clipboard; some terminals ask or ignore it"


def _save(conversation: Conversation, rest: str) -> str:
    if not rest:
        raise UsageError("/save needs a file name")
    saved = {
        "format": _FORMAT,
        "model": conversation.session.manifest.name,
        "system": conversation.system,
        "messages": conversation.messages,
    }
    try:
        path = expanded(rest)
        if os.path.lexists(path):
            raise UsageError(f"{rest} exists; choose another name")
        write_output(path, f"{json_text(saved, indent=1)}\n".encode())
    except OSError as error:
        raise UsageError(f"{rest} cannot be written: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{rest} cannot be written: {error}") from None
    return f"{_turns(conversation.messages)} saved as {rest}"


def _load(conversation: Conversation, rest: str) -> str:
    if not rest:
        raise UsageError("/load needs a file name")
    try:
        saved = read_json_object(expanded(rest), error=UsageError)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{rest} cannot be read: {error}") from None
    messages, system = saved.get("messages"), saved.get("system", "")
    if saved.get("format") != _FORMAT or not isinstance(system, str) or not isinstance(messages, list):
        raise UsageError(f"{rest} is not a conversation that /save has written")
    read = [_message(entry, place, rest) for place, entry in enumerate(messages)]
    if len(read) % 2:
        raise UsageError(f"{rest} has {len(read)} messages; the last question has no answer")
    conversation.messages = read
    conversation.system, conversation.last = system, None
    model = saved.get("model")
    held = f", which were held with {model}" if model != conversation.session.manifest.name else ""
    return f"{_turns(messages)} loaded from {rest}{held}"


def _turns(messages: Sequence[object]) -> str:
    count = len(messages) // 2
    return f"{count} turn{'' if count == 1 else 's'}"


def _message(entry: object, place: int, name: str) -> Message:
    role = ("user", "assistant")[place % 2]
    if isinstance(entry, dict) and entry.get("role") == role and isinstance(entry.get("content"), str):
        return {"role": role, "content": entry["content"]}
    raise UsageError(f"message {place + 1} of {name} is not a text of the {role}")


COMMANDS = {
    "/help": Command("", "list the commands", lambda conversation, rest: help_text()),
    "/reset": Command("", "forget the conversation", _reset),
    "/retry": Command("", "answer the last question again", lambda conversation, rest: ""),  # the loop does it
    "/system": Command("[TEXT]", "set the system prompt; without TEXT, use the model's own", _system),
    "/think": Command("show|fold|hide|free|N", "how thoughts are shown, or the most tokens of a thought", _think),
    "/stats": Command("", "context in use and the figures of the last answer", _stats),
    "/copy": Command("", "copy the last answer to the clipboard", _copy),
    "/save": Command("FILE", "save the conversation", _save),
    "/load": Command("FILE", "continue a saved conversation", _load),
    "/exit": Command("", "end; so does Ctrl-D", lambda conversation, rest: ""),
}


def help_text() -> str:
    """The commands and keys, one in a line."""
    rows: Sequence[tuple[str, str]] = [
        *((f"{name} {command.usage}".rstrip(), command.help) for name, command in COMMANDS.items()),
        ("Ctrl-C", "stop an answer"),
    ]
    if can_edit():
        rows = [*rows, ("Alt-Enter, or \\ at a line's end", "begin another line")]
    else:
        rows = [*rows, ('pip install "edgekit-llm[chat]"', "questions of several lines, history and completion")]
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"{left:{width}}  {right}" for left, right in rows)
