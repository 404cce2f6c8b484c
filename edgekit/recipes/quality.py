"""What an artifact must reach to pass the gate at the end of its build: a recipe's ``[quality]`` table."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Limits of what is measured on text held out from calibration; a recipe may set each.

    The defaults, for a model of which nothing is known, are SmolLM2-135M's: ``recipes/smollm2-135m.toml``.

    Args:
        max_mean_kl, max_p99_kl: Kullback-Leibler divergence from the float model to the artifact, nats per token: its
            mean and its 99th percentile.
        max_perplexity_ratio: Perplexity of the artifact / that of the float model.
        min_top1: Share of positions where both models' likeliest token is the same.
        thought_closes: A reasoning model must end at least one of its thoughts.
        no_loops: No more than half of the answers may repeat themselves for ever.
        one_bos: The templated prompt must start with one beginning-of-sequence token, not with two or none.

    Raises:
        ValueError: A limit is no finite number or lies outside its range.
    """

    max_mean_kl: float = 0.6
    max_p99_kl: float = 4.0
    max_perplexity_ratio: float = 1.6
    min_top1: float = 0.58
    thought_closes: bool = True
    no_loops: bool = True
    one_bos: bool = True

    def __post_init__(self) -> None:
        allowed = {
            "max_mean_kl": (0, math.inf, "a finite number of 0 or more"),
            "max_p99_kl": (0, math.inf, "a finite number of 0 or more"),
            "max_perplexity_ratio": (0, math.inf, "a finite number of 0 or more; 1 is the float model's own"),
            "min_top1": (0, 1, "0 to 1"),
        }
        for key, (least, most, words) in allowed.items():
            value = getattr(self, key)
            if not (math.isfinite(value) and least <= value <= most):
                raise ValueError(f"{key} is {value}; allowed: {words}")
