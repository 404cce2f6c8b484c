from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.build.request import BuildRequest
from edgekit.counts import check_count, check_whole
from edgekit.errors import UsageError
from edgekit.planning.budget import UserLimits
from edgekit.planning.plan import PlanOptions
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.watch import Watch

WRONG = (2.5, 2.0, True, "2", float("nan"), [2])


@pytest.mark.parametrize("value", [*WRONG, 0, -1])
def test_a_count_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^n is .*; it must be a whole number of at least 1$"):
        check_count("n", value)


def test_numbers_in_range() -> None:
    check_count("n", 1)
    check_count("n", 0, least=0)
    check_whole("n", -5)
    with pytest.raises(ValueError, match=r"^n is '5'; it must be a whole number$"):
        check_whole("n", "5")


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("context", lambda value: edgekit.plan("smollm2-135m", "cpu", context=value)),
        ("prompt_tokens", lambda value: PlanOptions(prompt_tokens=value)),
        ("context", lambda value: EngineOptions(context=value)),
        ("threads", lambda value: EngineOptions(threads=value)),
        ("think_tokens", lambda value: Watch(value)),
        *((name, lambda value, name=name: BuildRequest(**{name: value}))
          for name in ("threads", "calibration_tokens", "quality_tokens")),
        *((name, lambda value, name=name: edgekit.evaluate(Path("x"), Path("y"), **{name: value}))
          for name in ("threads", "chunk_tokens", "max_chunks")),
    ],
)  # fmt: skip
def test_what_is_no_count_is_refused_everywhere(name: str, call: Callable[[Any], object], value: Any) -> None:
    with pytest.raises((ValueError, UsageError), match=f"{name} is .*; it must be a whole number"):
        call(value)


@pytest.mark.parametrize("value", [True, "5", 0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["ttft_s", "decode_tok_s", "memory_bytes"])
def test_limits_are_numbers(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a number above 0"):
        UserLimits(**{name: value})


def test_widths_are_whole_numbers() -> None:
    for wrong in ({"bits": 4.0}, {"block_size": 32.0}):
        with pytest.raises(ValueError, match="; allowed: "):
            edgekit.QuantizationScheme(**wrong)  # type: ignore[arg-type]
