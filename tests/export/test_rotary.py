"""The rotary tables: cos and sin of position * frequency, times the attention factor."""

from __future__ import annotations

import math

import pytest

from edgekit.export.rotary import rotary_rows
from edgekit.models.rope import Rope


@pytest.mark.parametrize("factor", [1.0, 1.25])
def test_rows_are_those_of_their_positions(factor: float) -> None:
    rope = Rope(100.0, 4, attention_factor=factor)  # frequencies 1 and 0.1
    cos, sin = rotary_rows(rope, 7, 10)
    assert cos.shape == sin.shape == (3, 2)
    for row, position in enumerate((7, 8, 9)):
        assert cos[row].tolist() == pytest.approx([factor * math.cos(position), factor * math.cos(position / 10)])
        assert sin[row].tolist() == pytest.approx([factor * math.sin(position), factor * math.sin(position / 10)])
