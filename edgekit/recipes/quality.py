"""The thresholds of the quality gate at the end of a build: a recipe's ``[quality]`` table."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Thresholds for figures that are measured on text held out from calibration. A recipe may set each.

    The defaults, for a model about which nothing is known, are SmolLM2-135M's: ``recipes/smollm2-135m.toml``.

    Args:
        max_mean_kl, max_p99_kl: Mean and 99th percentile of the Kullback-Leibler divergence from the float model to the
            artifact, nats per token.
        max_perplexity_ratio: The artifact's perplexity divided by the float model's.
        min_top1: Share of positions where both models have the same likeliest token.
        thought_closes: Whether a reasoning model must close at least one thought.
        answers_end: Whether at most half of the answers may run into the limit of tokens.
        no_loops: Whether at most half of the answers may end in an endless loop.
        one_bos: Whether the templated prompt must start with exactly one beginning-of-sequence token.

    Raises:
        ValueError: A threshold is not finite or is outside its range.
    """

    max_mean_kl: float = 0.6
    max_p99_kl: float = 4.0
    max_perplexity_ratio: float = 1.6
    min_top1: float = 0.58
    thought_closes: bool = True
    answers_end: bool = True
    no_loops: bool = True
    one_bos: bool = True

    def __post_init__(self) -> None:
        allowed = {
            "max_mean_kl": (0, math.inf, "a finite number of 0 or more"),
            "max_p99_kl": (0, math.inf, "a finite number of 0 or more"),
            "max_perplexity_ratio": (0, math.inf, "a finite number of 0 or more; the float model has 1"),
            "min_top1": (0, 1, "0 to 1"),
        }
        for key, (least, most, words) in allowed.items():
            value = getattr(self, key)
            if not (math.isfinite(value) and least <= value <= most):
                raise ValueError(f"{key} is {value}; allowed: {words}")
