"""The tables of cos and sin, which the graph, the native engine and the float reference read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..models.rope import Rope

Table = NDArray[np.float64]


def rotary_rows(rope: Rope, start: int, stop: int) -> tuple[Table, Table]:
    """Compute rows of both tables in float64, multiplied by the embedding's attention factor.

    Args:
        rope: The rotary embedding.
        start: First position.
        stop: One past the last position.

    Returns:
        cos and sin of position * frequency, (stop - start, head_dim / 2) each.
    """
    angles = np.arange(start, stop)[:, None] * np.array(rope.inverse_frequencies())
    return np.cos(angles) * rope.attention_factor, np.sin(angles) * rope.attention_factor
