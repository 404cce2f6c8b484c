"""A conversation that edgekit run has saved."""

from types import SimpleNamespace
from typing import Any

from fuzz_changes import json_change as change
from fuzz_files import as_json, written

from edgekit.cli._conversation import COMMANDS, Conversation

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    spoken = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    return as_json({"format": "edgekit.conversation/1", "model": "m", "system": "x", "messages": spoken})


def read(data: bytes) -> None:
    session: Any = SimpleNamespace(manifest=SimpleNamespace(name="m"))
    conversation = Conversation(session)
    COMMANDS["/load"].run(conversation, str(written("conversation.json", data)))
    conversation.prompt("?")
    conversation.take_back()
