"""The JSON schemas of what the server returns, for the OpenAPI document.

What it reads is described where it is checked, in the modules of the requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
NUMBER: Json = {"type": "number"}
FLAG: Json = {"type": "boolean"}


def _object(members: Mapping[str, Json], optional: Sequence[str] = ()) -> Json:
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": dict(members), "required": required, "additionalProperties": False}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _words(*words: str) -> Json:
    return {"type": "string", "enum": list(words)}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_FINISH = _words("stop", "length", "tool_calls")
_CALL = _object(
    {
        "index": COUNT,
        "id": TEXT,
        "type": _words("function"),
        "function": _object({"name": TEXT, "arguments": {**TEXT, "description": "A JSON object as text."}}),
    },
    optional=["index"],
)
_BYTES = _or_null(_list(COUNT))
_TOKEN = {"token": TEXT, "logprob": NUMBER, "bytes": _BYTES}
_LOGPROBS = _or_null(
    _object(
        {"content": _list(_object({**_TOKEN, "top_logprobs": _list(_object(_TOKEN))})), "refusal": {"type": "null"}}
    )
)
_TEXT_LOGPROBS = _or_null(
    _object(
        {
            "tokens": _list(TEXT),
            "token_logprobs": _list(NUMBER),
            "top_logprobs": _list({"type": "object", "additionalProperties": NUMBER}),
            "text_offset": _list(COUNT),
        }
    )
)
_MESSAGE = _object(
    {
        "role": _words("assistant"),
        "content": _or_null(TEXT),
        "refusal": {"type": "null"},
        "reasoning_content": {**TEXT, "description": "The thought of a reasoning model."},
        "tool_calls": _list(_CALL),
    },
    optional=["reasoning_content", "tool_calls"],
)
_DELTA = _object(
    {"role": _words("assistant"), "content": TEXT, "reasoning_content": TEXT, "tool_calls": _list(_CALL)},
    optional=["role", "content", "reasoning_content", "tool_calls"],
)
_HEAD: Json = {"id": TEXT, "created": COUNT, "model": TEXT}
_MODEL = {
    "id": TEXT,
    "object": _words("model"),
    "created": COUNT,
    "owned_by": TEXT,
    "reasoning": {**FLAG, "description": "Whether the model thinks before it answers."},
}
_RESPONSE_PART = _object(
    {"type": _words("output_text", "reasoning_text"), "text": TEXT, "annotations": _list({}), "logprobs": _list({})},
    optional=["annotations", "logprobs"],
)
_ITEM = _object(
    {
        "id": TEXT,
        "type": _words("message", "reasoning", "function_call"),
        "status": _words("in_progress", "completed", "incomplete"),
        "role": _words("assistant"),
        "content": _list(_RESPONSE_PART),
        "summary": _list({}),
        "call_id": TEXT,
        "name": TEXT,
        "arguments": TEXT,
    },
    optional=["role", "content", "summary", "call_id", "name", "arguments"],
)

RETURNED: Mapping[str, Json] = {
    "Error": _object(
        {"error": _object({"message": TEXT, "type": TEXT, "param": _or_null(TEXT), "code": _or_null(TEXT)})}
    ),
    "Usage": _object(
        {
            "prompt_tokens": COUNT,
            "completion_tokens": COUNT,
            "total_tokens": COUNT,
            "prompt_tokens_details": _object({"cached_tokens": COUNT}),
            "completion_tokens_details": _object({"reasoning_tokens": COUNT}),
        },
        optional=["prompt_tokens", "total_tokens", "prompt_tokens_details"],  # in the middle of a stream
    ),
    "ChatCompletion": _object(
        {
            **_HEAD,
            "object": _words("chat.completion"),
            "choices": _list(
                _object({"index": COUNT, "message": _MESSAGE, "logprobs": _LOGPROBS, "finish_reason": _FINISH})
            ),
            "usage": _ref("Usage"),
        }
    ),
    "ChatCompletionChunk": _object(
        {
            **_HEAD,
            "object": _words("chat.completion.chunk"),
            "choices": _list(
                _object({"index": COUNT, "delta": _DELTA, "logprobs": _LOGPROBS, "finish_reason": _or_null(_FINISH)})
            ),
            "usage": _or_null(_ref("Usage")),
        },
        optional=["usage"],
    ),
    "Completion": _object(
        {
            **_HEAD,
            "object": _words("text_completion"),
            "choices": _list(
                _object({"index": COUNT, "text": TEXT, "logprobs": _TEXT_LOGPROBS, "finish_reason": _or_null(_FINISH)})
            ),
            "usage": _or_null(_ref("Usage")),
        },
        optional=["usage"],
    ),
    "Response": _object(
        {
            "id": TEXT,
            "object": _words("response"),
            "created_at": COUNT,
            "model": TEXT,
            "instructions": _or_null(TEXT),
            "max_output_tokens": _or_null(COUNT),
            "metadata": {"type": "object"},
            "parallel_tool_calls": FLAG,
            "previous_response_id": {"type": "null"},
            "reasoning": _object({"effort": _or_null(TEXT), "summary": {"type": "null"}}),
            "temperature": _or_null(NUMBER),
            "text": {"type": "object"},
            "tool_choice": {"type": ["string", "object"]},
            "tools": _list({"type": "object"}),
            "top_p": _or_null(NUMBER),
            "truncation": _words("disabled"),
            "store": FLAG,
            "status": _words("completed", "incomplete", "in_progress"),
            "error": {"type": "null"},
            "incomplete_details": _or_null(_object({"reason": _words("max_output_tokens")})),
            "output": _list(_ITEM),
            "usage": _or_null(
                _object(
                    {
                        "input_tokens": COUNT,
                        "input_tokens_details": _object({"cached_tokens": COUNT}),
                        "output_tokens": COUNT,
                        "output_tokens_details": _object({"reasoning_tokens": COUNT}),
                        "total_tokens": COUNT,
                    }
                )
            ),
        }
    ),
    "Model": _object(_MODEL),
    "Models": _object({"object": _words("list"), "data": _list(_ref("Model"))}),
    "Health": _object({"status": _words("ok"), "active": COUNT, "waiting": COUNT}),
    "Tokens": _object({"tokens": _list(COUNT), "count": COUNT, "max_model_len": COUNT}),
}
