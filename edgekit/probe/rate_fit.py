"""Finds the rates behind measured times: every time is a sum of amounts of work, each over its rate.

    seconds = weights / rate + beside + attention / attention rate + layers * microseconds

which is both how a token and how a prompt is predicted (``planning/engine_speed.py``). Models of different shapes tell
the terms apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HELD = 0.1  # how strongly a rate that nothing here tells keeps the value it starts from, of a log
_STEPS = 30
_MOST_STEP = 0.5  # of a log


@dataclass(frozen=True)
class Row:
    """One measurement. Amounts are in units of the rates: bytes or multiply-adds, or seconds at some limit.

    Attributes:
        name: What was measured.
        seconds: Of a token, or of a prompt.
        weights: Bytes read, or multiply-adds with weights.
        beside: Seconds that nothing is fitted to: reading the KV cache.
        attention: Multiply-adds of attention.
        layers: Layers that ran; for a prompt times its tokens.
    """

    name: str
    seconds: float
    weights: float
    beside: float
    attention: float
    layers: float

    def predicted(self, rate: float, attention_rate: float, us: float) -> float:
        """Seconds."""
        return self.weights / rate + self.beside + self.attention / attention_rate + self.layers * us / 1e6


def fit(rows: Sequence[Row], start: Sequence[float], held: float = HELD) -> tuple[float, float, float]:
    """The two rates and the microseconds with the least squares of the logs' errors, by Gauss and Newton.

    Args:
        rows: What was measured.
        start: Where to begin, above 0.
        held: How strongly they stay there.
    """

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        errors = [np.log(row.predicted(*np.exp(logs)) / row.seconds) for row in rows]
        return np.array([*errors, *(held * (logs - first))])

    first = logs = np.log(start)
    for _ in range(_STEPS):
        step = np.linalg.lstsq(_jacobian(residuals, logs), residuals(logs), rcond=None)[0]
        logs = logs - step.clip(-_MOST_STEP, _MOST_STEP)
    rate, attention_rate, us = map(float, np.exp(logs))
    return rate, attention_rate, us


def _jacobian(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    step = 1e-5
    return np.stack([(function(at + step * e) - function(at - step * e)) / (2 * step) for e in np.eye(len(at))], axis=1)
