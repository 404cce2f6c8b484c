"""Log probabilities of the tokens of an answer, under the model's own distribution.

That is the softmax of the logits, before the loop guard, the temperature and the other sampling settings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tokenizer import Tokenizer

MOST_ALTERNATIVES = 20  # as in OpenAI's API


@dataclass(frozen=True)
class Alternative:
    """A token that could have been chosen.

    Attributes:
        token: Its id.
        text: Its text alone; a part of a character is U+FFFD, and a special token is as spelled in the vocabulary.
        logprob: The natural logarithm of its probability.
    """

    token: int
    text: str
    logprob: float


@dataclass(frozen=True)
class TokenLogprob:
    """A token of an answer.

    Attributes:
        token, text: As for :class:`Alternative`.
        logprob: The natural logarithm of its probability; None for a token that was not chosen, such as those that
            close a thought whose budget is spent.
        top: The most likely tokens, the most likely one first.
    """

    token: int
    text: str
    logprob: float | None
    top: tuple[Alternative, ...] = ()


class Logprobs:
    """Collects the log probabilities of an answer.

    Args:
        alternatives: How many of the most likely tokens to collect with each token: 0 to 20.
        tokenizer: The artifact's tokenizer.

    Attributes:
        found: The tokens so far.

    Raises:
        ValueError: The number is outside its range.
    """

    def __init__(self, alternatives: int, tokenizer: Tokenizer) -> None:
        if (
            isinstance(alternatives, bool)
            or not isinstance(alternatives, int)
            or not 0 <= alternatives <= MOST_ALTERNATIVES
        ):
            raise ValueError(f"logprobs is {alternatives!r}; it must be a whole number from 0 to {MOST_ALTERNATIVES}")
        self._alternatives, self._tokenizer = alternatives, tokenizer
        self.found: list[TokenLogprob] = []

    def chosen(self, token: int, logits: NDArray[np.float32]) -> None:
        """Add a token that was sampled from logits float32 (vocab_size,), as the model computed them."""
        row = logits.astype(np.float64)
        row -= row.max()
        row -= np.log(np.exp(row).sum())
        top: list[int] = []
        if self._alternatives:
            most = min(self._alternatives, row.size)
            likely = np.argpartition(-row, most - 1)[:most]
            top = likely[np.lexsort((likely, -row[likely]))].tolist()
        others = tuple(Alternative(i, self._text(i), float(row[i])) for i in top)
        self.found.append(TokenLogprob(token, self._text(token), float(row[token]), others))

    def forced(self, token: int) -> None:
        """Add a token that was not sampled."""
        self.found.append(TokenLogprob(token, self._text(token), None))

    def _text(self, token: int) -> str:
        return self._tokenizer.decode([token]) or self._tokenizer.token(token) or ""
