"""Writes JSON that every reader accepts: by default, Python writes NaN and infinity, which JSON does not have."""

from __future__ import annotations

import json
import math
from typing import Any


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


def finite_json(value: Any) -> Any:
    """A copy of a JSON value in which null stands for every number that is NaN or infinite."""
    if isinstance(value, dict):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
