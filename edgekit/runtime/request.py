"""What a caller asks of one answer, checked: its length, sampling, stops and log probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..arguments import check_count, one_or_several
from ..sampling import Sampling, SamplingOverrides
from .response_format import Grammar, ResponseFormat, grammar_of


@dataclass(frozen=True)
class AnswerRequest:
    """How to generate one answer.

    Attributes:
        max_tokens: The largest number of tokens; None is limited only by the context.
        sampling: How to choose tokens.
        seed: Of the sampler, as for :meth:`Session.generate`; None draws a fresh seed.
        stop_ids: Ids that end the answer, in addition to the model's own.
        stop_texts: Texts that end the answer, in addition to the model's own, and are not part of it.
        logprobs: How many alternatives of each token to report with its log probability; None reports none.
        grammar: What the answer must match; None allows any text.
    """

    max_tokens: int | None
    sampling: Sampling
    seed: int | None = None
    stop_ids: frozenset[int] = frozenset()
    stop_texts: tuple[str, ...] = ()
    logprobs: int | None = None
    grammar: Grammar | None = None

    @classmethod
    def of(
        cls,
        sampling: Sampling,
        changes: SamplingOverrides,
        *,
        max_tokens: int | None,
        seed: int | None,
        stop_ids: Iterable[int],
        stop: str | Sequence[str],
        logprobs: int | None,
        response_format: ResponseFormat | None,
    ) -> AnswerRequest:
        """A request with the values that a caller gave.

        Args:
            sampling: The settings that ``changes`` apply to.
            changes: Single settings.
            max_tokens, seed, stop_ids, logprobs: See the attributes.
            stop: A text, or several.
            response_format: The format of the answer.

        Raises:
            ValueError: A value is outside its range, a stop text is empty or no text, or the format is not known.
            MissingPackageError: The format is a class, which needs pydantic.
        """
        if max_tokens is not None:
            check_count("max_tokens", max_tokens)
        texts = one_or_several("stop", stop)
        for text in texts:
            if not isinstance(text, str) or not text:
                raise ValueError(f"a stop text is {text!r}; it must be text and not empty")
        return cls(
            max_tokens,
            changes.applied_to(sampling),
            seed,
            frozenset(token_ids(stop_ids, "stop_ids")),
            texts,
            logprobs,
            grammar_of(response_format),
        )


def token_ids(ids: Iterable[int], what: str) -> list[int]:
    """Token ids that a caller gave.

    Args:
        ids: The ids, of any type of whole numbers.
        what: What they are, for messages.

    Raises:
        ValueError: They are no list of whole numbers.
    """
    if not isinstance(ids, Iterable) or isinstance(ids, (str, bytes, bytearray, Mapping)):
        raise ValueError(f"{what} is {ids!r}; it must be a list of token ids")
    found = list(ids)
    for each in found:
        if isinstance(each, bool) or not isinstance(each, (int, np.integer)):
            raise ValueError(f"{what} has {each!r}; token ids are whole numbers")
    return [int(each) for each in found]
