"""The functions of a request: ``tools``, ``tool_choice`` and ``parallel_tool_calls``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..runtime.tools import Tools, tools_of
from .fields import Either, Flag, Free, ListOf, Text, Word
from .records import Field, Record, Tagged
from .request_error import RequestError

MOST_TOOLS = 128
_NAME = Text(1, 64, "a name of 1 to 64 characters")
_FUNCTION: Mapping[str, Field] = {
    "name": Field(_NAME, required=True),
    "description": Field(Text()),
    "parameters": Field(Free("a JSON schema"), "The JSON schema of the arguments."),
    "strict": Field(Flag(), "Calls that have to be made always match the schema; others need not."),
}
_WHY = "this server only supports tools of the type function"
_TYPE = Field(Word(("function",)), required=True)
_CHOICES = ("none", "auto", "required")
_CHOICE = "one of: none, auto, required; or an object that names a function"
PARALLEL = Field(
    Flag(), "Whether one answer may have several calls; if not, it ends after its first one. True if it is left out."
)

CHAT_TOOL = Tagged(
    "type",
    {
        "function": Record(
            "FunctionTool", {"type": _TYPE, "function": Field(Record("Function", _FUNCTION), required=True)}
        )
    },
    why=_WHY,
)
CHAT_TOOLS: Mapping[str, Field] = {
    "tools": Field(ListOf(CHAT_TOOL, most=MOST_TOOLS), "Functions that the model may call."),
    "tool_choice": Field(
        Either(
            (
                Word(_CHOICES),
                Tagged(
                    "type",
                    {
                        "function": Record(
                            "NamedTool",
                            {
                                "type": _TYPE,
                                "function": Field(
                                    Record("NamedFunction", {"name": Field(_NAME, required=True)}), required=True
                                ),
                            },
                        )
                    },
                    why=_WHY,
                ),
            ),
            _CHOICE,
        ),
        "Whether the model may, must not or has to call a function, or the function that it has to call.",
    ),
    "parallel_tool_calls": PARALLEL,
}
RESPONSE_TOOLS: Mapping[str, Field] = {
    "tools": Field(
        ListOf(
            Tagged("type", {"function": Record("ResponseFunctionTool", {"type": _TYPE, **_FUNCTION})}, why=_WHY),
            most=MOST_TOOLS,
        ),
        "Functions that the model may call.",
    ),
    "tool_choice": Field(
        Either(
            (
                Word(_CHOICES),
                Tagged(
                    "type",
                    {"function": Record("ResponseNamedTool", {"type": _TYPE, "name": Field(_NAME, required=True)})},
                    why=_WHY,
                ),
            ),
            _CHOICE,
        ),
        "Whether the model may, must not or has to call a function, or the function that it has to call.",
    ),
    "parallel_tool_calls": PARALLEL,
}


def requested_tools(values: Mapping[str, Any]) -> Tools | None:
    """The functions of a request; None if the model may call none.

    Args:
        values: Its fields, checked.

    Raises:
        RequestError: ``tool_choice`` asks for a function that is not there, or two have the same name.
    """
    definitions = [_wrapped(tool) for tool in values.get("tools", ())]
    choice = values.get("tool_choice", "auto")
    if isinstance(choice, dict):
        choice = choice.get("function", choice)["name"]
        if choice not in (tool["function"]["name"] for tool in definitions):
            raise RequestError(f"tool_choice names the function {choice!r}, which is not in tools", param="tool_choice")
        if choice in _CHOICES:  # a function of this name, alone, has to be called
            definitions = [tool for tool in definitions if tool["function"]["name"] == choice]
            choice = "required"
    try:
        return tools_of(definitions, choice, parallel=values.get("parallel_tool_calls", True))
    except ValueError as error:
        raise RequestError(str(error), param="tool_choice" if "tool_choice" in str(error) else "tools") from None


def _wrapped(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A function in the form of chat completions, without what templates do not know."""
    function = tool.get("function", tool)
    kept = {name: value for name, value in function.items() if name not in ("strict", "type")}
    return {"type": "function", "function": kept}
