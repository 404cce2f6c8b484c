"""From logits to a token: every filter is a threshold, so the vocabulary is never sorted.

The filters apply in this order, which is transformers' (``generation/logits_process.py``):

    repetition_penalty   ids of the prompt and of the answer: logit / p where positive, logit * p where negative
                         (CTRL, arXiv:1909.05858, section 4.1, with the sign mended as everywhere since)
    temperature          logits / temperature; 0 is greedy: the largest logit, the lowest id among equals, no filters
    top_k                tokens at least as likely as the k-th
    top_p                the fewest most likely tokens whose probabilities, among those left by top_k, reach p
                         (nucleus sampling, arXiv:1904.09751)
    min_p                tokens at least min_p times as likely as the likeliest (arXiv:2407.01082)

Tokens exactly as likely as the last one kept are kept too, so the outcome never depends on the order of ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError, EngineError, nearest

# Below this many candidates a sort costs less than one more round of partitioning (both some microseconds).
_SORT_BELOW = 256


@dataclass(frozen=True)
class SamplingConfig:
    """How the next token is chosen.

    Args:
        temperature: 0 (greedy) or more; 1 leaves the model's distribution as it is.
        top_p: Above 0, at most 1; 1 keeps all.
        top_k: 0 (off) or how many tokens stay.
        min_p: 0 (off) to 1.
        repetition_penalty: Above 0; 1 is off, above 1 discourages repetition.
        seed: Makes the choice repeatable; None draws a fresh one.

    Raises:
        ValueError: A value outside its range; the message names the value and the range.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} is {value!r}; it must be a finite number")
        for name in ("top_k", "seed"):
            value = getattr(self, name)
            if name == "seed" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} is {value!r}; it must be a whole number, 0 or more")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}; it must be between 0 and 1")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty is {self.repetition_penalty}; it must be above 0")

    @classmethod
    def from_manifest(cls, values: Mapping[str, Any]) -> SamplingConfig:
        """The defaults an artifact carries; a missing or null value leaves this class's own.

        Raises:
            ArtifactError: An unknown key, or a value outside its range.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ArtifactError(f"the manifest's sampling has an unknown key {key!r}", hint=nearest(key, known))
        try:
            return cls(**{key: value for key, value in values.items() if value is not None})
        except ValueError as error:
            raise ArtifactError(f"the manifest's sampling: {error}") from None


class Sampler:
    """Chooses the tokens of one answer: a configuration, a random generator and the ids seen so far.

    Args:
        config: How to choose.
        vocab_size: Length of the logits.
    """

    def __init__(self, config: SamplingConfig, vocab_size: int) -> None:
        self.config = config
        self._rng = np.random.default_rng(config.seed)
        self._seen = np.zeros(vocab_size, dtype=bool)

    def observe(self, ids: Iterable[int]) -> None:
        """Count ids (the prompt's) as seen, for the repetition penalty."""
        self._seen[list(ids)] = True

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Choose the next token and count it as seen.

        Args:
            logits: float32 (vocab_size,); left as it is.

        Raises:
            EngineError: The logits are not numbers: the model overflowed.
        """
        if self.config.repetition_penalty != 1.0:
            logits = penalized(logits, self._seen, self.config.repetition_penalty)
        peak = float(logits.max())
        if not math.isfinite(peak):
            raise EngineError(f"the model's best logit is {peak}; its arithmetic overflowed")
        token = int(logits.argmax()) if self.config.temperature == 0 else self._draw(logits)
        self._seen[token] = True
        return token

    def _draw(self, logits: NDArray[np.float32]) -> int:
        ids, weights = candidates(logits, self.config)
        cumulative = np.cumsum(weights)
        # The draw is below the total, so the index found is in range; a weight of 0 is never chosen.
        index = np.searchsorted(cumulative, self._rng.random() * cumulative[-1], side="right")
        return int(ids[min(int(index), ids.size - 1)])


def penalized(logits: NDArray[np.float32], seen: NDArray[np.bool_], penalty: float) -> NDArray[np.float32]:
    """A copy of logits (vocab_size,) in which seen (vocab_size,) ids are less likely (penalty above 1)."""
    result = logits.copy()
    values = result[seen]
    result[seen] = np.where(values > 0, values / penalty, values * penalty)
    return result


def candidates(logits: NDArray[np.float32], config: SamplingConfig) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that temperature, top_k, top_p and min_p leave.

    Args:
        logits: float32 (vocab_size,), its greatest value finite.
        config: The filters; its temperature is not 0.

    Returns:
        The ids, ascending, and their weights in proportion to their probabilities; the likeliest has 1.
    """
    ids = np.arange(logits.size)
    if 0 < config.top_k < logits.size:
        kth = np.partition(logits, logits.size - config.top_k)[logits.size - config.top_k]
        ids = np.nonzero(logits >= kth)[0]
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf, which is meant
        weights = np.exp((logits[ids].astype(np.float64) - float(logits.max())) / config.temperature)
    least = config.min_p  # the likeliest weighs 1
    if config.top_p < 1:
        least = max(least, nucleus_cut(weights, config.top_p))
    keep = weights >= least
    return ids[keep], weights[keep]


def nucleus_cut(weights: NDArray[np.float64], top_p: float) -> float:
    """The greatest cut such that the weights at or above it make up ``top_p`` of all: linear in their number.

    It is a search for a weighted quantile: split the candidates in halves by weight, keep on in the half where the sum
    passes the target, count the upper half when it is left behind.

    Args:
        weights: (n,), not negative, with a positive sum.
        top_p: Above 0, below 1.
    """
    target = top_p * float(weights.sum())
    # All weights below (1 - p) * sum / n together make less than 1 - p, so they are outside: this drops nearly all.
    active = weights[weights >= (float(weights.sum()) - target) / weights.size]
    above = 0.0
    while active.size > _SORT_BELOW:
        middle = active.size // 2
        split = np.partition(active, middle)
        upper = split[middle:]
        upper_sum = float(upper.sum())
        if above + upper_sum >= target:
            active = upper
        else:
            above += upper_sum
            active = split[:middle]
    ranked = np.sort(active)[::-1]
    index = int(np.searchsorted(above + np.cumsum(ranked), target))
    return float(ranked[min(index, ranked.size - 1)])
