"""Fits the rates behind measured times: every time is a sum of amounts of work, each divided by its rate.

    seconds = weights / rate + fixed + attention / attention rate + layers * microseconds

Tokens and prompts are both predicted this way (``planning/engine_speed.py``). Models of different shapes are needed to
separate the terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PULL = 0.1  # weight of the starting value in the least squares, per unit of a rate's logarithm
_STEPS = 30
_LARGEST_STEP = 0.5  # of a rate's logarithm


@dataclass(frozen=True)
class Row:
    """One measurement. Amounts are in the units of the rates: bytes or multiply-adds, or seconds at a limit.

    Attributes:
        name: What was measured.
        seconds: Measured time of a token or of a prompt.
        weights: Bytes read, or multiply-adds with weights.
        fixed_s: Seconds that are not fitted: reading the KV cache.
        attention: Multiply-adds of attention.
        layers: Number of layers, for a prompt times its tokens.
    """

    name: str
    seconds: float
    weights: float
    fixed_s: float
    attention: float
    layers: float

    def predicted(self, rate: float, attention_rate: float, us: float) -> float:
        """Predicted seconds at these rates; ``us`` is microseconds per layer."""
        return self.weights / rate + self.fixed_s + self.attention / attention_rate + self.layers * us / 1e6


def fit(rows: Sequence[Row], start: Sequence[float], pull: float = PULL) -> tuple[float, float, float]:
    """The two rates and the microseconds per layer, by Gauss-Newton least squares of the logarithmic errors.

    Args:
        rows: The measurements.
        start: The likely values, above 0.
        pull: How strongly the result is pulled towards them; a rate that the rows do not determine keeps its value.
    """

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        errors = [np.log(row.predicted(*np.exp(logs)) / row.seconds) for row in rows]
        return np.array([*errors, *(pull * (logs - first))])

    first = logs = np.log(start)
    for _ in range(_STEPS):
        step = np.linalg.lstsq(_jacobian(residuals, logs), residuals(logs), rcond=None)[0]
        logs = logs - step.clip(-_LARGEST_STEP, _LARGEST_STEP)
    rate, attention_rate, us = map(float, np.exp(logs))
    return rate, attention_rate, us


def _jacobian(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    step = 1e-5
    return np.stack([(function(at + step * e) - function(at - step * e)) / (2 * step) for e in np.eye(len(at))], axis=1)
