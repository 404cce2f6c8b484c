"""Conversations for the chat templates in ``tests/runtime/templates``, and what transformers makes of them.

The templates have the structure and the features of those of public models, and are written anew. ``expected.json`` is
the output of ``tests/interop/transformers_render.py``; ``tests/interop/test_transformers.py`` compares it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "runtime" / "templates"
EXPECTED = FOLDER / "expected.json"
# Special tokens that the templates use, and those that they write. <｜User｜> is not special in R1's tokenizer.
SPECIAL = {
    "r1_january.jinja": {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
    "r1_february.jinja": {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
    "llama3_2.jinja": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "gemma3.jinja": {"bos_token": "<bos>", "eos_token": "<eos>"},
    "command_r.jinja": {"bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>"},
    "mistral.jinja": {"bos_token": "<s>", "eos_token": "</s>"},
    "phi3.jinja": {"bos_token": "<s>", "eos_token": "<|endoftext|>"},
}
_DEFAULT = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
_USER = {"role": "user", "content": "  Is 2 < 3, and \"é\" a 'letter'?\n"}
_AGAIN = {"role": "user", "content": "你好 🙂 & <b>bold</b>"}
_SYSTEM = {"role": "system", "content": " Be brief.\nBe kind. "}
_ANSWER = {"role": "assistant", "content": "  Yes.\n\nBoth. "}
_THOUGHT = {"role": "assistant", "content": "<think>\nOne,\n\ntwo.\n</think>\n\nYes.\n"}
_PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": 'A city\'s name, such as "Zürich"'},
        "days": {"type": "array", "items": {"type": "integer"}},
        "options": {"type": "object", "additionalProperties": {"type": ["number", "boolean"]}},
    },
    "required": ["city"],
}
_WEATHER = {"name": "weather", "description": "The weather\nin <city>", "parameters": _PARAMETERS}
_NOW = {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": _WEATHER}, {"type": "function", "function": _NOW}]
_ARGUMENTS = {"name": "weather", "arguments": {"city": "Zürich", "days": [1]}}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "abcdefghi", "type": "function", "function": _ARGUMENTS}],
}
_RESULT = {"role": "tool", "content": '{"sky": "clear", "°C": 21}', "tool_call_id": "abcdefghi"}
_DOCUMENTS = [{"title": "Tall penguins", "text": "Emperor penguins grow to 122 cm."}, {"title": "2", "text": "x\ny"}]
TEMPLATES = sorted(path.name for path in FOLDER.glob("*.jinja"))


def cases() -> dict[str, dict[str, Any]]:
    """Each case: ``template``, ``special`` and the arguments of ``ChatTemplate.prompt``."""
    conversations: dict[str, dict[str, Any]] = {
        "a question": {"messages": [_USER]},
        "a conversation": {"messages": [_SYSTEM, _USER, _ANSWER, _AGAIN]},
        "a thought": {"messages": [_USER, _THOUGHT, _AGAIN]},
        "the end": {"messages": [_USER, _ANSWER], "add_generation_prompt": False},
        "tools": {"messages": [_SYSTEM, _USER], "tools": TOOLS},
        "a call": {"messages": [_USER, _CALL, _RESULT], "tools": TOOLS},
        "a call's answer": {"messages": [_USER, _CALL, _RESULT, _RESULT, _ANSWER, _AGAIN], "tools": TOOLS},
        "documents": {"messages": [_USER], "documents": _DOCUMENTS},
        "no alternation": {"messages": [_USER, _AGAIN]},
    }
    found = {
        f"{template} {name}": {"template": template, "special": SPECIAL.get(template, _DEFAULT), **case}
        for template in TEMPLATES
        for name, case in conversations.items()
    }
    null = {**_CALL, "content": None}
    parts = [{"type": "image"}, {"type": "text", "text": " What is it? "}, {"type": "text", "text": "<b>"}]
    extra: dict[str, dict[str, Any]] = {
        "r1_february.jinja a call without content": {"messages": [_USER, null, _RESULT]},
        "r1_january.jinja a call without content": {"messages": [_USER, null, _RESULT, _ANSWER, _AGAIN]},
        "qwen3.jinja no thinking": {"messages": [_USER], "variables": {"enable_thinking": False}},
        "qwen3.jinja a thought before a call": {
            "messages": [_USER, {**_CALL, "content": _THOUGHT["content"]}, _RESULT], "tools": TOOLS
        },
        "qwen3.jinja a thought of its own": {
            "messages": [_USER, {**_CALL, "reasoning_content": "I need it."}, _RESULT], "tools": TOOLS
        },
        "llama3_2.jinja tools for the system": {
            "messages": [_SYSTEM, _USER], "tools": TOOLS, "variables": {"tools_in_user_message": False}
        },
        "llama3_2.jinja a date": {"messages": [_USER], "variables": {"date_string": "1 Jan 2025"}},
        "gemma3.jinja parts": {"messages": [{"role": "user", "content": parts}]},
        "gemma3.jinja a system's parts": {
            "messages": [{"role": "system", "content": parts[1:]}, {"role": "user", "content": parts}]
        },
    }  # fmt: skip
    for name, case in extra.items():
        template = name.split()[0]
        found[name] = {"template": template, "special": SPECIAL.get(template, _DEFAULT), **case}
    return found
