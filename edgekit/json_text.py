"""Writes JSON that every reader accepts: by default, Python writes NaN and infinity, which JSON does not have."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

_AT_ONCE = 10_000  # numbers that are written in about a millisecond


def json_text(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """JSON text that can be encoded in UTF-8.

    Args:
        value: JSON values.
        indent: Spaces per level; None for one line.
        sort_keys: Sort the keys instead of keeping their order.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    text = json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode()  # half of a surrogate pair becomes its JSON escape


def json_list(values: Sequence[int]) -> str:
    """The JSON text of a list of whole numbers, which may be long: other threads run while it is written."""
    pieces = (json.dumps(list(values[start : start + _AT_ONCE])) for start in range(0, len(values), _AT_ONCE))
    return f"[{', '.join(piece[1:-1] for piece in pieces)}]"


def finite_json(value: Any) -> Any:
    """A copy of a JSON value in which null stands for every number that is NaN or infinite."""
    if isinstance(value, dict):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
