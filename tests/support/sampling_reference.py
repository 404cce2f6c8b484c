"""What the sampler computes, in numpy: :func:`candidates` by thresholds, :func:`plain_candidates` by definition."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgekit.sampling import Sampling

# Below this many candidates a sort costs less than one more round of partitioning (both some microseconds).
_SORT_BELOW = 256


def penalized(logits: NDArray[np.float32], seen: NDArray[np.bool_], penalty: float) -> NDArray[np.float32]:
    """A copy of logits (vocab_size,) in which seen (vocab_size,) ids are less likely (penalty above 1)."""
    result = logits.copy()
    values = result[seen]
    result[seen] = np.where(values > 0, values / penalty, values * penalty)
    return result


def candidates(logits: NDArray[np.float32], config: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
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


def plain_candidates(logits: NDArray[np.float32], config: Sampling) -> dict[int, float]:
    """The definition: sort everything, apply one filter after another. Token -> probability."""
    scaled = [(float(x) - float(logits.max())) / config.temperature for x in logits]
    tokens = sorted(range(len(scaled)), key=lambda i: -logits[i])
    if config.top_k:
        tokens = [t for t in tokens if logits[t] >= logits[tokens[min(config.top_k, len(tokens)) - 1]]]
    total = math.fsum(math.exp(scaled[t]) for t in tokens)
    probability = {t: math.exp(scaled[t]) / total for t in tokens}
    if config.top_p < 1:
        mass, last = 0.0, tokens[-1]
        for t in tokens:
            mass += probability[t]
            if mass >= config.top_p:
                last = t
                break
        tokens = [t for t in tokens if probability[t] >= probability[last]]
    tokens = [t for t in tokens if probability[t] >= config.min_p * probability[tokens[0]]]
    total = math.fsum(probability[t] for t in tokens)
    return {t: probability[t] / total for t in tokens}
