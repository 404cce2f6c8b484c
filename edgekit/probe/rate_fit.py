"""Fits the rates behind measured times: every time is a sum of amounts of work, each divided by its rate.

    seconds = weights / rate + fixed + attention / attention rate + layers * microseconds

Tokens and prompts are both predicted this way (``Rates`` of ``planning/engine_speed.py``). Models of different shapes
are needed to separate the terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from ..planning.engine_speed import Rates

PULL = 0.1  # weight of the starting value in the least squares, per unit of a rate's logarithm
_STEPS = 30
_LARGEST_STEP = 0.5  # of a rate's logarithm


@dataclass(frozen=True)
class Row:
    """One measurement. Amounts are bytes or multiply-adds, for shares divided by the limit (10^9 per second).

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

    def predicted(self, rates: Rates) -> float:
        """Predicted seconds at these rates."""
        return rates.seconds(self.weights, self.attention, self.layers) + self.fixed_s


def fit(rows: Sequence[Row], start: Rates, pull: float = PULL) -> Rates:
    """The two rates and the microseconds per layer, by Gauss-Newton least squares of the logarithmic errors.

    Args:
        rows: The measurements.
        start: The likely values, above 0.
        pull: How strongly the result is pulled towards them; a rate that the rows do not determine keeps its value.
    """

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        errors = [np.log(row.predicted(Rates(*np.exp(logs))) / row.seconds) for row in rows]
        return np.array([*errors, *(pull * (logs - first))])

    first = logs = np.log(astuple(start))
    for _ in range(_STEPS):
        step = np.linalg.lstsq(_jacobian(residuals, logs), residuals(logs), rcond=None)[0]
        logs = logs - step.clip(-_LARGEST_STEP, _LARGEST_STEP)
    return Rates(*map(float, np.exp(logs)))


def _jacobian(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    step = 1e-5
    return np.stack([(function(at + step * e) - function(at - step * e)) / (2 * step) for e in np.eye(len(at))], axis=1)
