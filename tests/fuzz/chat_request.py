"""The body of a request for an answer to a conversation, up to its prompt and its compiled grammar."""

from functools import cache

import fuzz_changes
from fuzz_files import as_json, text

from edgekit.errors import EdgekitError
from edgekit.runtime.constraint import Constraints
from edgekit.runtime.tool_calls import HERMES, LLAMA3, R1
from edgekit.serve.body import parse_json
from edgekit.serve.chat_request import read_chat_request
from edgekit.serve.request_error import RequestError, request_error

ALLOWED = (RequestError,)
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
_TOOL = {"type": "function", "function": {"name": "f", "description": "x", "parameters": _SCHEMA, "strict": True}}


def seeds() -> list[bytes]:
    question = {"role": "user", "content": "Hi"}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    return as_json(
        {"model": "tiny", "messages": [question], "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 1},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "x"}]}, question], "stream": True,
         "stream_options": {"include_usage": True}, "stop": ["a", "b"], "n": 2, "logprobs": True, "top_logprobs": 3},
        {"messages": [question, {"role": "assistant", "content": None, "tool_calls": [call]},
                      {"role": "tool", "tool_call_id": "1", "content": "2"}], "tools": [_TOOL], "tool_choice": "auto"},
        {"messages": [question],
         "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}}},
        {"messages": [question], "tools": [_TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}},
         "reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}, "parallel_tool_calls": False},
    )  # fmt: skip


@cache
def _constraints() -> Constraints:
    return Constraints(text()[0], 320, [1])


def change(choose, data):
    return fuzz_changes.json_change(choose, data, seeds())


def read(data: bytes) -> None:
    request = read_chat_request(parse_json(data))
    tokenizer, template = text()
    try:
        schemas = request.tools.definitions if request.tools else None
        tokenizer.encode(template.prompt(request.messages, tools=schemas, variables=request.variables))
        grammars = [request.answer.grammar]
        if request.tools:
            grammars = [request.tools.grammar(form, grammars[0], tokenizer.token_id) for form in (HERMES, R1, LLAMA3)]
        for grammar in grammars:
            if grammar is not None:
                _constraints().start(grammar, after_thought=True)
    except (EdgekitError, ValueError) as error:
        raise request_error(error) from None
