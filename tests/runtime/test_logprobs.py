"""Log probabilities of tokens and their alternatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tiny_checkpoint import tokenizer

from edgekit.runtime.logprobs import Logprobs
from edgekit.runtime.tokenizer import Tokenizer

WORDS = Tokenizer(tokenizer(), bos=0, add_bos=False)


def test_probabilities_add_up_and_are_sorted() -> None:
    logits = np.random.default_rng(1).normal(size=30).astype(np.float32) * 4
    logits[[4, 9]] = 11.0  # equal ones: the lower id first
    found = Logprobs(20, WORDS)
    found.chosen(17, logits)
    (token,) = found.found
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum()
    assert token.logprob == pytest.approx(math.log(probabilities[17]), abs=1e-5)
    assert [other.token for other in token.top] == np.lexsort((np.arange(30), -logits))[:20].tolist()
    assert [other.logprob for other in token.top] == pytest.approx(np.log(np.sort(probabilities)[:-21:-1]), abs=1e-5)


def test_large_logits_do_not_overflow_and_a_small_vocabulary_has_fewer() -> None:
    found = Logprobs(20, WORDS)
    found.chosen(1, np.array([3e38, 3e38, -3e38], np.float32))
    assert found.found[0].logprob == pytest.approx(-math.log(2))
    assert [other.token for other in found.found[0].top] == [0, 1, 2]


def test_a_token_that_was_not_chosen_has_none() -> None:
    found = Logprobs(0, WORDS)
    found.forced(5)
    found.chosen(5, np.zeros(8, np.float32))
    assert [(each.logprob, each.top) for each in found.found] == [(None, ()), (pytest.approx(-math.log(8)), ())]
    assert found.found[0].text == (WORDS.decode([5]) or WORDS.token(5))


@pytest.mark.parametrize("count", [-1, 21, 1.0, True])
def test_the_number_of_alternatives_is_limited(count: Any) -> None:
    with pytest.raises(ValueError, match="it must be a whole number from 0 to 20"):
        Logprobs(count, WORDS)
