"""References for the sampler in numpy: :func:`candidates` uses thresholds, :func:`plain_candidates` the definition."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgekit.sampling import Sampling

# With fewer candidates, sorting is faster than another round of partitioning (both take some microseconds).
_SORT_BELOW = 256


def penalized(logits: NDArray[np.float32], seen: NDArray[np.bool_], penalty: float) -> NDArray[np.float32]:
    """Apply a repetition penalty to the ids marked in ``seen`` (vocab_size,). Returns a copy of the logits."""
    result = logits.copy()
    values = result[seen]
    result[seen] = np.where(values > 0, values / penalty, values * penalty)
    return result


def candidates(logits: NDArray[np.float32], config: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that remain after temperature, top_k, top_p and min_p.

    Args:
        logits: float32 (vocab_size,); the largest must be finite.
        config: The settings; the temperature must not be 0.

    Returns:
        The ids in ascending order, and weights proportional to their probabilities; the largest weight is 1.
    """
    ids = np.arange(logits.size)
    if 0 < config.top_k < logits.size:
        kth = np.partition(logits, logits.size - config.top_k)[logits.size - config.top_k]
        ids = np.nonzero(logits >= kth)[0]
    with np.errstate(over="ignore"):  # a tiny temperature gives all but the best logit -inf, as intended
        weights = np.exp((logits[ids].astype(np.float64) - float(logits.max())) / config.temperature)
    threshold = config.min_p  # the largest weight is 1
    if config.top_p < 1:
        threshold = max(threshold, nucleus_threshold(weights, config.top_p))
    keep = weights >= threshold
    return ids[keep], weights[keep]


def nucleus_threshold(weights: NDArray[np.float64], top_p: float) -> float:
    """The largest threshold such that the weights at or above it add up to ``top_p`` of the total, in linear time.

    This is a search for a weighted quantile: split the candidates into two halves by weight and continue in the half in
    which the sum reaches the target. If that is the lower half, add the sum of the upper half.

    Args:
        weights: (n,), not negative, with a positive sum.
        top_p: Above 0, below 1.
    """
    target = top_p * float(weights.sum())
    # All weights below (1 - p) * sum / n add up to less than 1 - p, so they are outside. This drops nearly all weights.
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
    """The definition: sort all tokens and apply one filter after another. Returns token -> probability."""
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
