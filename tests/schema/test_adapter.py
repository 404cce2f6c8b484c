"""The settings of LoRA adapters."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.errors import CorruptFileError
from edgekit.schema.adapter import ADAPTER
from edgekit.schema.fields import check_table


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("bias", ["none", "all", "lora_only", None], ["nonex", 0]),
        ("fan_in_fan_out", [True, False, None], ["false", "0", 1]),
        ("target_modules", ["all-linear", ["q_proj", "v_proj"], None], [[1], {"a": 1}, False]),
        ("task_type", ["CAUSAL_LM", None], [3, ["x"]]),
    ],
)
def test_types(key: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check_table({key: value}, ADAPTER, "f", CorruptFileError)
    for value in bad:
        with pytest.raises(CorruptFileError, match=f"f: {key}"):
            check_table({key: value}, ADAPTER, "f", CorruptFileError)
