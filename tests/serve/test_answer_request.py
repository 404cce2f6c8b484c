from __future__ import annotations

from typing import Any

import pytest

from edgekit.sampling import Sampling
from edgekit.serve.answer_request import COMMON, AnswerRequest, answer_request
from edgekit.serve.records import Record
from edgekit.serve.request_error import RequestError


def read(**values: Any) -> AnswerRequest:
    return answer_request(Record("Request", COMMON).read(values), None)


def test_the_fields_are_read() -> None:
    found = read(
        model="m", temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, repetition_penalty=1.1, seed=-1, stop="x",
        stream=True, stream_options={"include_usage": True}, user="u", n=3, presence_penalty=0, logit_bias={},
    )  # fmt: skip
    assert found.sampling.applied_to(Sampling()) == Sampling(0.5, 0.9, 3, 0.1, 1.1)
    assert (found.model, found.seed, found.stop) == ("m", 2**64 - 1, ("x",))
    assert (found.stream, found.include_usage, found.running_usage, found.choices) == (True, True, False, 3)


def test_absent_fields_keep_the_artifacts_settings() -> None:
    found = read()
    assert found.sampling.applied_to(Sampling(temperature=0.3)) == Sampling(temperature=0.3)
    assert (found.model, found.seed, found.stop, found.stream) == (None, None, (), False)


@pytest.mark.parametrize(
    ("values", "param", "message"),
    [
        ({"n": 9}, "n", "from 1 to 8"),
        ({"temperature": -1}, "temperature", "temperature is -1; it must be a number from 0"),
        ({"temperature": "hot"}, "temperature", "must be a number from 0"),
        ({"temperature": 1e999}, "temperature", "temperature is Infinity"),
        ({"top_p": 0}, "top_p", "above 0"),
        ({"top_k": -1}, "top_k", "whole number"),
        ({"seed": 1 << 64}, "seed", "seed is 18446744073709551616"),
        ({"stop": [""]}, "stop[0]", "not empty"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"stop": 5}, "stop", "stop is 5"),
        ({"stop": "\ud800"}, "stop", "lone surrogates"),
        ({"repetition_penalty": 1e-38}, "repetition_penalty", "a number from 0.01 to"),
        ({"presence_penalty": 0.5}, "presence_penalty", "repetition_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "does not support"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "only allowed with stream"),
        ({"stream": True, "stream_options": {"usage": 1}}, "stream_options.usage", "not a field"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"best": 1}, "best", "not a field"),
    ],
)
def test_a_wrong_field_is_refused(values: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read(**values)
    assert (caught.value.status, caught.value.param) == (400, param)
