"""The body of a request to /v1/responses."""

import fuzz_changes
from fuzz_files import as_json

from edgekit.serve.body import parse_json
from edgekit.serve.request_error import RequestError
from edgekit.serve.response_request import read_response_request

ALLOWED = (RequestError,)
_SCHEMA = {"type": "object", "properties": {}}


def seeds() -> list[bytes]:
    return as_json(
        {"model": "tiny", "input": "Hi", "instructions": "x", "max_output_tokens": 3, "metadata": {"a": "b"}},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]},
                   {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                   {"type": "function_call_output", "call_id": "1", "output": "2"}],
         "tools": [{"type": "function", "name": "f", "parameters": _SCHEMA}],
         "tool_choice": {"type": "function", "name": "f"}},
        {"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA}}, "stream": True,
         "reasoning": {"effort": "high"}, "temperature": 1, "truncation": "disabled", "store": False},
    )  # fmt: skip


def change(choose, data):
    return fuzz_changes.json_change(choose, data, seeds())


def read(data: bytes) -> None:
    read_response_request(parse_json(data))
