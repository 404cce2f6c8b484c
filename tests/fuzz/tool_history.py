"""Messages, functions and calls as a program gives them to ``Session.chat``, up to the prompt of four templates."""

from functools import cache

import fuzz_changes
from fuzz_files import as_json, text
from public_templates import FOLDER, SPECIAL

from edgekit.errors import EdgekitError
from edgekit.json_file import parse_json_object
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.tools import ToolTemplate, tools_of

ALLOWED = (EdgekitError, ValueError)


@cache
def _templates() -> list[tuple[ChatTemplate, ToolTemplate]]:
    templates = [text()[1]]
    for name in ("qwen3.jinja", "r1_february.jinja", "llama3_2.jinja"):
        special = SPECIAL.get(name, {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"})
        templates.append(ChatTemplate((FOLDER / name).read_text(encoding="utf-8"), special))
    return [(template, ToolTemplate(template)) for template in templates]


def seeds() -> list[bytes]:
    asked = {"role": "user", "content": "Is it warm?"}
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    result = {"role": "tool", "tool_call_id": "1", "name": "weather", "content": "21"}
    weather = {"name": "weather", "description": "x", "parameters": {"type": "object", "properties": {"city": {}}}}
    calls = [call, {"function": {"name": "f", "arguments": {"a": [1]}}}]
    return as_json(
        {"messages": [{"role": "system", "content": "s"}, asked], "tools": [{"type": "function", "function": weather}]},
        {"messages": [asked, {"role": "assistant", "content": "", "tool_calls": calls}, result, result]},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "s"}]}, asked], "tools": [weather],
         "tool_choice": "weather", "variables": {"enable_thinking": False}},
        {"messages": [asked, {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [call]},
                      {"role": "ipython", "content": [{"type": "text", "text": "2"}]}], "tools": [weather]},
        {"messages": [asked, {"role": "assistant", "content": "<think>\nno\n</think>\n\nyes"}, asked]},
    )  # fmt: skip


def change(choose, data):
    return fuzz_changes.json_change(choose, data, seeds())


def read(data: bytes) -> None:
    given = parse_json_object(data, "the input")
    tools = tools_of(given.get("tools"), given.get("tool_choice", "auto"))
    for template, knows in _templates():
        messages = knows.messages(given.get("messages", []), tools)
        template.prompt(messages, tools=knows.definitions(tools), variables=given.get("variables"))
