"""The settings of quantized checkpoints."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.errors import CorruptFileError
from edgekit.schema.fields import Field, check_table
from edgekit.schema.quantization import AWQ, FP8, GPTQ


@pytest.mark.parametrize(
    ("table", "key", "good", "bad"),
    [
        (GPTQ, "group_size", [-1, 32], [0, -2, 1.0, "32"]),
        (GPTQ, "sym", [True, None], [1, "true"]),
        (GPTQ, "dynamic", [{}, {"-:x": {}}, {"x": None}, {"x": {"bits": 8, "other": 1}}], [[], {"x": {"bits": "8"}}]),
        (AWQ, "modules_to_not_convert", [["lm_head"], None], ["lm_head", [1]]),
        (AWQ, "zero_point", [False], ["false"]),
        (FP8, "weight_block_size", [[128, 128], None], [[128, 0], [1, 2, 3], "128"]),
    ],
)
def test_types(table: dict[str, Field], key: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check_table({key: value}, table, "f", CorruptFileError)
    for value in bad:
        with pytest.raises(CorruptFileError, match=f"f: {key}"):
            check_table({key: value}, table, "f", CorruptFileError)
