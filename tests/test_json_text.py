"""JSON that every reader accepts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgekit.json_text import finite_json, json_list, json_text

SOURCE = Path(__file__).parents[1] / "edgekit"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")], {"a": {"b": (1.0, float("nan"))}}])
def test_a_number_that_json_does_not_have_is_refused_or_null(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(value)
    text = json_text(finite_json(value))
    assert "null" in text
    assert not re.search("NaN|Infinity", text)


def test_other_values_stay_as_they_are() -> None:
    value = {"b": [1, 2.5, True, None, "é"], "a": {}}
    assert finite_json(value) == value
    assert json_text(value) == '{"b": [1, 2.5, true, null, "é"], "a": {}}'
    assert json_text(value, sort_keys=True, indent=1).startswith('{\n "a": {}')


def test_half_of_a_surrogate_pair_is_escaped() -> None:
    text = json_text({"é": "\ud800"})
    assert json.loads(text.encode()) == {"é": "\ud800"}


@pytest.mark.parametrize("package", ["artifact", "build", "cli", "deploy", "export"])
def test_what_writes_files_or_prints_does_not_call_pythons_writer(package: str) -> None:
    """Elsewhere, json.dumps makes hashes, keys and escapes that no other program reads."""
    for path in (SOURCE / package).rglob("*.py"):
        assert not re.search(r"json\.dumps?\(", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("count", [0, 1, 9_999, 10_000, 10_001, 25_000])
def test_a_long_list_is_written_in_pieces(count: int) -> None:
    assert json_list(range(count)) == json_text(list(range(count)))
