"""What a caller asks of an answer: single settings, stop texts and their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.runtime.request import AnswerRequest, token_ids
from edgekit.sampling import Sampling, SamplingOverrides

GIVEN: dict[str, Any] = {
    "max_tokens": None, "seed": None, "stop_ids": (), "stop": (), "logprobs": None, "response_format": None,
}  # fmt: skip


def request(changes: SamplingOverrides | None = None, **given: Any) -> AnswerRequest:
    return AnswerRequest.of(Sampling(temperature=0.5, top_k=7), changes or SamplingOverrides(), **{**GIVEN, **given})


def test_values_are_kept_and_single_settings_applied() -> None:
    found = request(SamplingOverrides(temperature=0.0), max_tokens=3, stop="\n\n", stop_ids=[1, 1])
    assert found == AnswerRequest(3, Sampling(temperature=0.0, top_k=7), None, frozenset({1}), ("\n\n",))
    assert request(stop=["a", "b"]).stop_texts == ("a", "b")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; it must be a whole number of at least 1"),
        ({"max_tokens": 1.5}, "max_tokens is 1.5"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"stop": ""}, "a stop text is ''; it must be text and not empty"),
        ({"stop": ["a", 3]}, "a stop text is 3"),
        ({"stop": None}, "stop is None; it must be a text or a list of texts"),
        ({"stop": {"a": 1}}, "it must be a text or a list of texts"),
        ({"stop_ids": None}, "stop_ids is None; it must be a list of token ids"),
        ({"stop_ids": b"ab"}, "stop_ids is b.ab.; it must be a list of token ids"),
        ({"stop_ids": ["a"]}, "stop_ids has 'a'; token ids are whole numbers"),
    ],
)
def test_values_outside_their_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        request(**given)


@pytest.mark.parametrize("ids", [[1.5], [True], ["1"], [None], [[1]], [float("nan")], 5, None, np.array([1.0])])
def test_token_ids_are_whole_numbers(ids: Any) -> None:
    with pytest.raises(ValueError, match=r"the prompt (has|is) .*(token ids are whole numbers|a list of token ids)"):
        token_ids(ids, "the prompt")


def test_token_ids_may_be_of_any_whole_type() -> None:
    assert token_ids(np.array([1, 2], np.uint16)[::-1], "the prompt") == [2, 1]
    assert token_ids(iter([3, 2**70]), "the prompt") == [3, 2**70]
