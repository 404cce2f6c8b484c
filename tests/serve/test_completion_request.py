from __future__ import annotations

from typing import Any

import pytest

from edgekit.serve.completion_request import read_completion_request, read_tokenize_request
from edgekit.serve.request_error import RequestError


def test_a_prompt_is_a_text_or_ids() -> None:
    for value, found in (("abc", "abc"), (["abc"], "abc"), ([1, 2], [1, 2]), ([[1, 2]], [1, 2])):
        assert read_completion_request({"prompt": value}).prompt == found
    assert read_completion_request({"prompt": "a"}).answer.max_tokens is None
    assert read_completion_request({"prompt": "a", "max_tokens": 5}).answer.max_tokens == 5


@pytest.mark.parametrize("prompt", [None, "", [], ["a", "b"], [True], [1.5], [[]], {"a": 1}])
def test_another_prompt_is_refused(prompt: Any) -> None:
    with pytest.raises(RequestError) as caught:
        read_completion_request({"prompt": prompt})
    assert caught.value.param in ("prompt", "prompt[0]")


@pytest.mark.parametrize(
    "field",
    [{"suffix": "x"}, {"best_of": 2}, {"logprobs": 6}, {"messages": []}, {"echo": 1}, {"echo": True, "logprobs": 0}],
)
def test_what_is_not_supported_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        read_completion_request({"prompt": "a", **field})
    assert caught.value.param == next(iter(field))


def test_log_probabilities_and_echo() -> None:
    assert read_completion_request({"prompt": "a", "logprobs": 0}).answer.logprobs == 0
    assert read_completion_request({"prompt": "a", "echo": True}).echo


def test_what_is_tokenized() -> None:
    assert read_tokenize_request({"prompt": "a", "add_special_tokens": False}).add_bos is False
    messages = [{"role": "user", "content": "a"}]
    assert read_tokenize_request({"messages": messages}).prompt == messages
    for wrong in ({}, {"prompt": "a", "messages": messages}, {"prompt": 5}, {"prompt": "a", "add_special_tokens": 1}):
        with pytest.raises(RequestError):
            read_tokenize_request(wrong)
