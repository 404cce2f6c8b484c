from __future__ import annotations

from typing import Any

import pytest

from edgekit.serve.options import ServeOptions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parallel": 0}, "parallel is 0; it must be from 1 to 16"),
        ({"parallel": 17}, "parallel is 17; it must be from 1 to 16"),
        ({"queue": -1}, "queue is -1; it must be 0 or more"),
        ({"caches": -1}, "caches is -1; it must be 0 or more"),
        ({"max_tokens": 0}, "max_tokens is 0; it must be at least 1"),
        ({"time_limit_s": 0}, "time_limit_s is 0; it must be above 0"),
    ],
)
def test_limits_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServeOptions(**values)
