"""The messages of a conversation in OpenAI's form, and as chat templates take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .fields import Either, Ignored, ListOf, Only, Text, Word
from .records import Field, Record, Tagged
from .request_error import RequestError

_CONTENT = 'a string, or a list of parts such as {"type": "text", "text": "..."}'
_UNSUPPORTED = Only((), "this server does not support it")
_PART = Tagged(
    "type",
    {
        "text": Record(
            "TextPart",
            {
                "type": Field(Word(("text",)), required=True),
                "text": Field(Text(), required=True),
                "cache_control": Field(Ignored()),
            },
        )
    },
    why="this server only reads text",
)
CONTENT = Either((Text(), ListOf(_PART, least=1, allowed=_CONTENT)), _CONTENT)
CALL = Record(
    "ToolCall",
    {
        "id": Field(Text(), required=True),
        "type": Field(Word(("function",))),
        "function": Field(
            Record(
                "CalledFunction",
                {
                    "name": Field(Text(1), required=True),
                    "arguments": Field(Text(), "A JSON object as text.", required=True),
                },
            ),
            required=True,
        ),
        "index": Field(Ignored()),  # clients that collect the chunks of a stream leave it there
    },
)


def _message(role: str, **members: Field) -> Record:
    fields = {
        "role": Field(Word((role,)), required=True),
        "content": Field(CONTENT, required=True),
        "name": Field(Text(), "The name of the one who speaks, for templates that show it."),
        **members,
    }
    return Record(f"{role.capitalize()}Message", fields)


MESSAGE = Tagged(
    "role",
    {
        "system": _message("system"),
        "developer": _message("developer"),
        "user": _message("user"),
        "assistant": _message(
            "assistant",
            content=Field(CONTENT),
            reasoning_content=Field(Text(), "The thought, for templates that keep it."),
            reasoning=Field(Ignored()),
            tool_calls=Field(ListOf(CALL)),
            annotations=Field(Only(([],), "this server does not support it")),
            refusal=Field(Ignored()),
            audio=Field(_UNSUPPORTED),
            function_call=Field(Only((), "this server does not support it; use tool_calls")),
        ),
        "tool": _message("tool", tool_call_id=Field(Text(), "The id of the call.", required=True)),
    },
)
MESSAGES = ListOf(MESSAGE, least=1, allowed="a list of at least one message")


def template_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Checked messages as chat templates take them.

    Raises:
        RequestError: A message has neither content nor calls.
    """
    found = []
    for number, message in enumerate(messages):
        if "content" not in message and not message.get("tool_calls"):
            path = f"messages[{number}].content"
            raise RequestError(f"{path} is missing; it must be {_CONTENT}", param=path)
        kept = {name: value for name, value in message.items() if value is not None and value != []}
        if kept["role"] == "developer":
            kept["role"] = "system"
        for part in kept["content"] if isinstance(kept.get("content"), list) else ():
            part.pop("cache_control", None)
        for call in kept.get("tool_calls", ()):
            call.pop("index", None)
        found.append({"content": "", **kept})
    return found
