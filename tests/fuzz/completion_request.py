"""The bodies of requests to continue and to encode a text."""

from fuzz_changes import json_change as change
from fuzz_files import as_json

from edgekit.serve.body import parse_json
from edgekit.serve.completion_request import read_completion_request, read_tokenize_request
from edgekit.serve.request_error import RequestError

__all__ = ["change", "read", "seeds"]
ALLOWED = (RequestError,)


def seeds() -> list[bytes]:
    return as_json(
        {"prompt": "Once", "max_tokens": 3, "logprobs": 2, "echo": False, "stop": "x", "min_p": 0.1},
        {"prompt": [1, 2, 3], "stream": True, "n": 2, "repetition_penalty": 1.1, "top_k": 4, "user": "me"},
        {"prompt": ["one"], "suffix": None, "best_of": 1, "logit_bias": {}, "presence_penalty": 0},
        {"messages": [{"role": "user", "content": "x"}], "add_special_tokens": True},
    )


def read(data: bytes) -> None:
    value = parse_json(data)
    try:
        read_completion_request(value)
    except RequestError as error:
        _ = error.body
    read_tokenize_request(value)
