"""What a program gives to the API: counts, truth values, texts and objects of edgekit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit import QuantizationConfig, QuantizationOverrides
from edgekit.arguments import check_count, check_kind, check_truth, check_whole, one_or_several
from edgekit.build.request import BuildRequest
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
    check_count("n", 5, most=5)
    with pytest.raises(ValueError, match=r"^n is 6; it must be a whole number from 1 to 5$"):
        check_count("n", 6, most=5)
    for call in (lambda: BuildRequest(threads=1025), lambda: edgekit.evaluate("x", "y", threads=1025)):
        with pytest.raises(UsageError, match="threads is 1025; it must be a whole number from 1 to 1024"):
            call()  # type: ignore[no-untyped-call]
    check_whole("n", -5)
    with pytest.raises(ValueError, match=r"^n is '5'; it must be a whole number$"):
        check_whole("n", "5")


def test_truth_values() -> None:
    check_truth("t", True)
    check_truth("t", None, optional=True)
    with pytest.raises(ValueError, match=r"^t is None; it must be True or False$"):
        check_truth("t", None)
    with pytest.raises(UsageError, match=r"^t is 'false'; it must be True or False or None$"):
        check_truth("t", "false", optional=True, error=UsageError)


def test_one_text_is_not_its_letters() -> None:
    assert one_or_several("s", "END") == ("END",)
    assert one_or_several("s", Path("a")) == (Path("a"),)
    assert one_or_several("s", ["a", "b"]) == ("a", "b")
    for wrong in (b"END", {"a": 1}, 3, None):
        with pytest.raises(ValueError, match=r"^s is .*; it must be a text or a list of texts$"):
            one_or_several("s", wrong)


def test_objects() -> None:
    check_kind("x", None, int)
    check_kind("x", 3, str, int)
    with pytest.raises(ValueError, match=r"^x is \{\}; it must be str or int, or None$"):
        check_kind("x", {}, str, int)


@pytest.mark.parametrize("value", ["false", "", 0, 1, 2.5, [], {}])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        *((name, lambda value, name=name: BuildRequest(**{name: value}))
          for name in ("force", "gate", "anyway", "reasoning")),
        *((name, lambda value, name=name: edgekit.load("x", **{name: value})) for name in ("prepare", "speculate")),
        *((name, lambda value, name=name: QuantizationOverrides(**{name: value}))
          for name in ("symmetric", "rotate", "scale")),
        *((name, lambda value, name=name: QuantizationConfig(None, None, None, **{name: value}))
          for name in ("rotate", "scale")),
        ("reasoning", lambda value: edgekit.plan("smollm2-135m", "cpu", reasoning=value)),
        ("headless", lambda value: PlanOptions(headless=value)),
        ("headless", lambda value: edgekit.smoke("x", device="pi", headless=value)),
    ],
)  # fmt: skip
def test_what_is_no_truth_value_is_refused_everywhere(name: str, call: Callable[[Any], object], value: Any) -> None:
    with pytest.raises((ValueError, UsageError), match=f"{name} is .*; it must be True or False"):
        call(value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: edgekit.plan("smollm2-135m", "cpu", quantization={}),  # type: ignore[arg-type]
        lambda: edgekit.plan("smollm2-135m", "cpu", options={}),  # type: ignore[arg-type]
        lambda: BuildRequest(quantization="int4"),  # type: ignore[arg-type]
        lambda: BuildRequest(plan_options={}),  # type: ignore[arg-type]
        lambda: BuildRequest(stop=("x", 3)),  # type: ignore[arg-type]
        lambda: PlanOptions(limits=None),  # type: ignore[arg-type]
        lambda: QuantizationConfig(4, None, None),  # type: ignore[arg-type]
        lambda: QuantizationOverrides(bits="4"),  # type: ignore[arg-type]
        lambda: edgekit.Choice({"a": 1}),  # type: ignore[arg-type]
        lambda: edgekit.build(lora=b"x"),  # type: ignore[arg-type]
        lambda: edgekit.build(stop={"a": 1}),  # type: ignore[arg-type]
    ],
)
def test_objects_of_another_class_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises((ValueError, UsageError), match=r"must be|needs"):
        call()


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
